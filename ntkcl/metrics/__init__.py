"""Metrics of one run from its predictions, and statistics over runs."""
