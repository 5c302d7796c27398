"""The models of all settings, the files under params/ that hold them, and their validation."""
