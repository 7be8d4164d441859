"""Signs documents and attaches them to images in registries."""
