"""Loading of prepared images, or of a user's images, as batches of a task."""
