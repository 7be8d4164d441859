"""The thin shells around the core: a package per service, what they share, the local stack."""
