// A plugin of webpack that writes which modules are in which file: OUT.json.
const fs = require('fs');
const path = require('path');

/** Of a component of the client, the server has no more than its path. */
const isThere = (module) => !(module.layer === 'rsc' && module.buildInfo?.rsc?.type === 'client');

function modulesIn(out, held = {}) {
  const noted = (compilation) => {
    if (compilation.compiler.parentCompilation) return;
    for (const chunk of compilation.chunks) {
      const modules = [...compilation.chunkGraph.getChunkModulesIterable(chunk)]
        .flatMap((one) => (one.modules ? [...one.modules] : [one]))
        .filter(isThere).map((one) => one.resource).filter(Boolean);
      for (const file of chunk.files) {
        const whole = path.resolve(compilation.outputOptions.path, file);
        if (file.endsWith('.js')) held[whole] = modules;
      }
    }
    if (out) fs.writeFileSync(`${out}.json`, JSON.stringify(held));
  };
  return {
    apply: (compiler) => compiler.hooks.afterEmit.tap('modulesIn', noted),
  };
}

module.exports = { modulesIn };
