"""Datasets: sources, prepared files, and loading as a task stream."""
