"""Settings of NTK-CL.

Defaults are what the authors' code does, for CIFAR-100, since the published numbers came from it.
"""

from typing import Literal

from pydantic import Field

from ntkcl.settings.models import Count, Fraction, Model, NotNegative, Positive

Fusion = Literal["attention", "value", "sum", "gated", "mlp", "channel", "patch"]
Feature = Literal["channel", "patch", "hybrid"]


class NTKCLSettings(Model):
    """Settings of NTK-CL; a weight of 0 switches its term off."""

    adapter_width: Count = 16
    adapter_scale: NotNegative = 0.1
    adapter_dropout: Fraction = 0.1
    prompts: Count = Field(10, description="prompt tokens of the patch subnetwork in each block")
    prompt_init: Literal["zero", "trainable"] = Field("zero", description="alive: the map that makes prompts can learn")
    prompt_scale: NotNegative = Field(0.1, description="factor of the prompts from the block before")
    previous_adapters_dropout: bool = Field(True, description="dropout also in the frozen previous branch, in training")
    pretrained_part: bool = Field(False, description="the plain ViT's feature as a third section")
    previous_adapters: Literal["mean", "last", "decay", "none"] = Field(
        "mean", description="previous copy: mean over tasks, last task's, decaying mean, or no such section"
    )
    previous_adapters_decay: Fraction = Field(0.5, description="what a decaying mean keeps of itself at a task's end")
    fusion: Fusion = Field("attention", description="hybrid feature; value: attention without query and key")
    fusion_patch: float = Field(0.1, description="weight of the patch feature in the hybrid one")
    fusion_attention: float = Field(0.5, description="weight of the attention in the hybrid feature")
    fusion_heads: Count = 8
    fusion_dropout: Fraction = 0.1
    proxy_scale: Positive = Field(1.0, description="start of the proxies' learned scale")
    channel_weight: NotNegative = Field(1.0, description="weight of the channel feature's cross entropy")
    patch_weight: NotNegative = Field(1.0, description="weight of the patch feature's cross entropy")
    hybrid_weight: NotNegative = Field(1.0, description="weight of the hybrid feature's cross entropy")
    info_nce_weight: float = Field(0.03, description="eta; InfoNCE is maximized, as released (negative: minimized)")
    info_nce_temperature: Positive = 0.1
    dissimilarity_weight: float = Field(1e-4, description="upsilon")
    dissimilarity: Literal["sum", "squared_norm"] = Field(
        "sum", description="of what is outside earlier prototypes' span"
    )
    dissimilarity_basis: Count = Field(40, description="most basis vectors of the earlier prototypes")
    regularization_weight: NotNegative = Field(1e-3, description="lambda")
    regularization: Literal["l2", "l1"] = Field("l2", description="squared, or absolute, change of weights")
    undefined_terms: Literal["zero", "error"] = Field(
        "zero", description="InfoNCE of a batch without a positive pair: 0, as released, or stop"
    )
    inference_feature: Feature = Field("hybrid", description="what is compared with the (hybrid) prototypes")
    inference_weights: tuple[float, float, float] = Field(
        (1.0, 0.3, 0.1), description="of the pre-trained, previous and current section"
    )

    prototypes: Literal["kept", "recomputed"] = Field(
        "kept", description="recomputed: an oracle, from the images of all tasks at the end of each"
    )

    @property
    def feature_parts(self) -> dict[str, float]:
        """The parts of a feature in order, with their weights in inference."""
        weights = dict(zip(("pretrained", "previous", "current"), self.inference_weights, strict=True))
        is_there = {"pretrained": self.pretrained_part, "previous": self.previous_adapters != "none", "current": True}
        return {name: weight for name, weight in weights.items() if is_there[name]}
