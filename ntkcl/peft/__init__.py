"""Parameter-efficient modules that act on an unmodified timm `VisionTransformer`."""
