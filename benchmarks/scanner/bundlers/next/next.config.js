// Has each of Next.js's compilations (server, edge, client) told which modules are in which file.
const { modulesIn } = require(process.env.BUNDLERS_CHUNKS);

module.exports = {
  output: 'standalone',
  experimental: { cpus: 1 },
  webpack(config, { isServer, nextRuntime }) {
    config.plugins.push(modulesIn(`${process.env.BUNDLERS_OUT}/${isServer ? nextRuntime : 'client'}`));
    return config;
  },
};
