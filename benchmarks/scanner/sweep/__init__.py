"""Wrong silences of the file-to-package map, looked for in the most used packages."""
