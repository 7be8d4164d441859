// Has Vite and Nitro told which modules are in which file.
import { modulesIn } from './modules.mjs';

export default defineNuxtConfig({
  telemetry: false,
  sourcemap: false,
  vite: { plugins: [modulesIn()] },
  nitro: {
    noExternals: process.env.BUNDLERS_WHOLE === '1',
    minify: process.env.BUNDLERS_WHOLE === '1',
    rollupConfig: { plugins: [modulesIn()] },
  },
});
