// A plugin of webpack that tells which modules are in which file.

function modulesIn(held) {
  const noted = (compilation) => {
    if (compilation.compiler.parentCompilation) return;
    for (const chunk of compilation.chunks) {
      const modules = [...compilation.chunkGraph.getChunkModulesIterable(chunk)]
        .flatMap((one) => (one.modules ? [...one.modules] : [one]))
        .map((one) => one.resource).filter(Boolean);
      for (const file of chunk.files) if (file.endsWith('.js')) held[file] = modules;
    }
  };
  return {
    apply: (compiler) => compiler.hooks.afterEmit.tap('modulesIn', noted),
  };
}

module.exports = { modulesIn };
