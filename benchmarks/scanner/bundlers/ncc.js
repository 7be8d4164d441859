// Compiles each entry with @vercel/ncc, minified; its source map tells what is in it.
const fs = require('fs');
const ncc = require('@vercel/ncc');
const { entries, out, finish } = require('./shared');

const held = {};
(async () => {
  for (const { name, file } of entries) {
    try {
      const { code, map } = await ncc(file, {
        minify: true, sourceMap: true, sourceMapRegister: false, cache: false, quiet: true,
      });
      fs.writeFileSync(`${out}/${name}.js`, code);
      held[`${name}.js`] = JSON.parse(map).sources;
    } catch (error) {
      console.error(`${name}: ${error.message}`);
    }
  }
  finish(held);
})();
