"""The learner interface, and a module or package for each method, found by its name (see ntkcl.registry)."""
