"""Sources of images: a module for each, found by its name (see ntkcl.registry)."""
