"""Files that are written completely or not at all, tensors with metadata, locks, provenance."""
