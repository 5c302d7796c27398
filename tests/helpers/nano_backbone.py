"""A backbone that is pre-trained in a second."""

from pathlib import Path

import yaml

from tests.helpers.projects import clear_settings


def write_backbone(**pretraining: object) -> None:
    """Settings of a backbone that is pre-trained in a second."""
    architecture = {"img_size": 16, "patch_size": 8, "in_chans": 1, "embed_dim": 16}
    architecture |= {"depth": 2, "num_heads": 2, "mlp_ratio": 2}
    settings = {"dataset": "small", "steps": 20, "batch_size": 16} | pretraining
    entry = {"label": "Nano", "architecture": architecture, "pretraining": settings}
    Path("params/backbones.yaml").write_text(yaml.safe_dump({"nano": entry}), encoding="utf-8")
    clear_settings()
