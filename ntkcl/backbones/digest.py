"""Names of a backbone's weights, by its settings."""

from ntkcl.backbones.shipped import check_shipped
from ntkcl.data.sources.common.options import dataset_digest
from ntkcl.settings.digest import digest_of
from ntkcl.settings.files import load_backbone


def backbone_digest(name: str) -> str:
    """Name the weights that the settings of a backbone ask for: published, shipped, or pre-trained here.

    Raises:
        UserError: the settings do not describe the weights that come with the package.
    """
    backbone = load_backbone(name)
    if backbone.weights:
        return digest_of(backbone.architecture, backbone.weights.timm)
    if backbone.shipped:
        check_shipped(name, backbone)
        return digest_of(backbone.architecture, backbone.shipped)
    return recipe_digest(name)


def recipe_digest(name: str) -> str:
    """Name the weights that pre-training gives, up to the rounding of the processor."""
    backbone = load_backbone(name)
    return digest_of(backbone.architecture, backbone.pretraining, dataset_digest(backbone.pretraining.dataset))
