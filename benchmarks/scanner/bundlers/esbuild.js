// Bundles each entry with esbuild, minified.
const fs = require('fs');
const esbuild = require('esbuild');
const { entries, out, finish } = require('./shared');

const held = {};
for (const { name, file } of entries) {
  try {
    const { metafile } = esbuild.buildSync({
      entryPoints: [file], outfile: `${out}/${name}.js`, bundle: true, minify: true,
      platform: 'node', metafile: true, logLevel: 'silent', legalComments: 'none',
      external: ['*.node'],
    });
    const output = Object.values(metafile.outputs).find((one) => one.entryPoint);
    held[`${name}.js`] = Object.entries(output.inputs)
      .filter(([, input]) => input.bytesInOutput > 0).map(([module]) => module);
  } catch (error) {
    fs.rmSync(`${out}/${name}.js`, { force: true });
  }
}
finish(held);
