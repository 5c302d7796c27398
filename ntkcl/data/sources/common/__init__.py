"""What several sources share: archives, lists of images, splits, rendering, options."""
