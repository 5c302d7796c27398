"""Comparisons over the runs of a study, and the kernel's theory on single runs."""
