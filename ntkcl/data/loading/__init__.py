"""From prepared images, or those of a user, to batches of a task."""
