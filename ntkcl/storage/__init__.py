"""Files: written whole or not at all, tensors with metadata, locks, provenance."""
