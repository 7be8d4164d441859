// What the bundlers have in common: node BUNDLER.js OUT ENTRIES.json
const fs = require('fs');
const path = require('path');

const [, , out, list] = process.argv;
const entries = JSON.parse(fs.readFileSync(list));

/** Writes which modules are in which bundle, by their paths from node_modules on. */
function finish(held) {
  const told = {};
  for (const [name, modules] of Object.entries(held)) {
    const packaged = modules.filter((one) => one.includes('node_modules/'))
      .map((one) => one.slice(one.indexOf('node_modules/')));
    told[path.relative(out, path.resolve(out, name))] = [...new Set(packaged)].sort();
  }
  fs.writeFileSync(`${out}/held.json`, JSON.stringify(told));
  process.exit(0);
}

module.exports = { entries, out, finish };
