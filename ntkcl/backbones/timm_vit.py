"""The parts of timm that we use, imported without W&B.

timm imports W&B wherever it is installed, for training scripts of its own: a third of a second in each of many jobs.
"""

import sys

hidden = "wandb" not in sys.modules
if hidden:
    sys.modules["wandb"] = None

from timm import create_model, list_models  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

if hidden:
    del sys.modules["wandb"]

__all__ = ["VisionTransformer", "create_model", "list_models"]
