"""Where images come from: one module a source, found by its name (see ntkcl.registry)."""
