"""Parameter-efficient modules: small parts that act on an unmodified timm `VisionTransformer`."""
