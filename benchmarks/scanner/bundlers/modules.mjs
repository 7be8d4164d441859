// A plugin of Rollup and Vite that writes which modules are in which file: a line of JSON for each.
import fs from 'node:fs';
import path from 'node:path';

export const modulesIn = () => ({
  name: 'modules-in',
  writeBundle(options, bundle) {
    const home = options.dir ?? path.dirname(options.file);
    for (const chunk of Object.values(bundle)) {
      if (chunk.type !== 'chunk') continue;
      const modules = Object.entries(chunk.modules)
        .filter(([, module]) => module.renderedLength > 0)
        .map(([id]) => id.replace(/^\0/, '').replace(/\?.*/, ''));
      const file = path.resolve(home, chunk.fileName);
      fs.appendFileSync(process.env.BUNDLERS_OUT, `${JSON.stringify({ file, modules })}\n`);
    }
  },
});
