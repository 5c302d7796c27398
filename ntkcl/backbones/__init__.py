"""Frozen feature extractors: unmodified timm VisionTransformers and their weight files."""
