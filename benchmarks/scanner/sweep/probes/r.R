# Loads namespaces and writes what R has loaded.
args <- commandArgs(TRUE)
for (name in args[-1]) try(suppressMessages(loadNamespace(name)), silent = TRUE)
files <- unlist(lapply(loadedNamespaces(), function(n) file.path(getNamespaceInfo(n, "path"), "DESCRIPTION")))
maps <- readLines("/proc/self/maps")
maps <- sub("^[^/]*", "", grep("r-xp.*/", maps, value = TRUE))
cat(paste0(c(paste0("r\t", files), paste0("\t", maps)), "\n"), file = args[1], sep = "")
