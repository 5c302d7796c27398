"""Datasets: their sources, the prepared files, and loading them as tasks."""
