"""Which weights a backbone has, by its settings."""

from ntkcl.data.sources.common.options import dataset_digest
from ntkcl.settings.digest import digest_of
from ntkcl.settings.files import load_backbone


def backbone_digest(name: str) -> str:
    """Names the weights of a backbone."""
    backbone = load_backbone(name)
    if backbone.weights:
        return digest_of(backbone.architecture, backbone.weights.timm)
    return digest_of(backbone.architecture, backbone.pretraining, dataset_digest(backbone.pretraining.dataset))
