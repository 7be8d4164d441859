// Bundles each entry with Rollup and terser; what no import reaches is shaken off.
const { rollup } = require('rollup');
const commonjs = require('@rollup/plugin-commonjs');
const json = require('@rollup/plugin-json');
const { nodeResolve } = require('@rollup/plugin-node-resolve');
const terser = require('@rollup/plugin-terser');
const { entries, out, finish } = require('./shared');

const held = {};
(async () => {
  for (const { name, file } of entries) {
    try {
      const bundle = await rollup({
        input: file, onwarn: () => {},
        plugins: [nodeResolve({ preferBuiltins: true, exportConditions: ['node'] }),
          commonjs({ ignoreDynamicRequires: true }), json(), terser({ maxWorkers: 1 })],
      });
      const { output } = await bundle.write(
        { file: `${out}/${name}.js`, format: 'cjs', inlineDynamicImports: true });
      held[`${name}.js`] = Object.entries(output[0].modules)
        .filter(([, module]) => module.renderedLength > 0)
        .map(([module]) => module.replace(/^\0/, '').replace(/\?.*/, ''));
    } catch (error) {
      console.error(`${name}: ${error.message}`);
    }
  }
  finish(held);
})();
