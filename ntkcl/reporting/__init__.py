"""Tables and figures from the files of runs; nothing is measured here."""
