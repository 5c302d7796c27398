"""Models of all settings, the files under params/ that contain them, and their validation."""
