"""Figures of the report, one file each: `NAME.py` defines `FIGURE`, and nothing else has to list it."""
