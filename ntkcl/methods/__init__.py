"""The learner interface, and one module or package a method, found by its name (see ntkcl.registry)."""
