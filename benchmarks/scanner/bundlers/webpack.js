// Bundles each entry with webpack in production mode: terser, modules joined where it can.
const path = require('path');
const webpack = require('webpack');
const { entries, out, finish } = require('./shared');
const { modulesIn } = require('./chunks');

const held = {};

function build({ name, file }) {
  const compiler = webpack({
    mode: 'production',
    target: 'node',
    context: path.dirname(file),
    entry: file,
    output: { path: out, filename: `${name}.js`, chunkFilename: `${name}.[id].js` },
    optimization: { emitOnErrors: true },
    plugins: [modulesIn(null, held)],
  });
  return new Promise((done) => compiler.run(() => compiler.close(done)));
}

(async () => {
  for (const entry of entries) await build(entry);
  finish(held);
})();
