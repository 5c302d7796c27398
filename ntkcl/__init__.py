"""NTK-CL and its rivals under one protocol: continual learning with frozen pre-trained models."""

__version__ = "0.1.0"
