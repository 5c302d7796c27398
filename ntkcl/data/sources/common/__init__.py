"""Helpers of the sources: archives, lists of images, splits, rendering, options."""
