"""Prepared datasets: a manifest with one row per image, and the images."""
