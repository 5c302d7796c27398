"""Settings of NTK-CL.

Defaults are those of the authors' code for CIFAR-100, since the published numbers came from it.
"""

from typing import Literal

from pydantic import Field

from ntkcl.settings.models import Count, Fraction, Model, NotNegative, Positive

Fusion = Literal["attention", "value", "sum", "gated", "mlp", "channel", "patch"]
Feature = Literal["channel", "patch", "hybrid"]


class NTKCLSettings(Model):
    """Settings of NTK-CL; a weight of 0 switches its term off."""

    adapter_width: Count = Field(16, description="width of the adapters' bottleneck (S1)")
    adapter_scale: NotNegative = Field(0.1, description="factor of the adapters' output")
    adapter_dropout: Fraction = Field(0.1, description="dropout in the adapters' bottleneck")
    prompts: Count = Field(10, description="number of prompt tokens in each block (S2)")
    prompt_init: Literal["zero", "trainable"] = Field(
        "zero", description="zero: as released, the map that creates prompts cannot learn; trainable: it can"
    )
    prompt_scale: NotNegative = Field(0.1, description="factor of the prompts that come from the block before")
    previous_adapters_dropout: bool = Field(
        True, description="whether dropout in the previous adapters is active in training"
    )
    pretrained_part: bool = Field(False, description="whether the plain ViT's feature is a part of the feature")
    previous_adapters: Literal["mean", "last", "decay", "none"] = Field(
        "mean", description="frozen copy: mean over tasks, the last task's, a decaying mean, or no such feature part"
    )
    previous_adapters_decay: Fraction = Field(
        0.5, description="weight of the earlier copies when a decaying mean is updated"
    )
    fusion: Fusion = Field(
        "attention", description="fusion of channel and patch feature; value: attention without query and key"
    )
    fusion_patch: float = Field(0.1, description="weight of the patch feature in the hybrid one")
    fusion_attention: float = Field(0.5, description="weight of the attention in the hybrid feature")
    fusion_heads: Count = Field(8, description="attention heads; must divide the width of the feature")
    fusion_dropout: Fraction = Field(0.1, description="dropout of the attention")
    proxy_scale: Positive = Field(1.0, description="initial value of the proxies' learned scale")
    channel_weight: NotNegative = Field(1.0, description="weight of the channel feature's cross entropy")
    patch_weight: NotNegative = Field(1.0, description="weight of the patch feature's cross entropy")
    hybrid_weight: NotNegative = Field(1.0, description="weight of the hybrid feature's cross entropy")
    info_nce_weight: float = Field(
        0.03, description="weight of InfoNCE (η), which is maximized, as released; negative: minimized"
    )
    info_nce_temperature: Positive = Field(0.1, description="temperature of InfoNCE")
    dissimilarity_weight: float = Field(1e-4, description="weight of the dissimilarity (υ)")
    dissimilarity: Literal["sum", "squared_norm"] = Field(
        "sum",
        description="signed sum or squared norm of what the features have outside the span of earlier prototypes",
    )
    dissimilarity_basis: Count = Field(40, description="maximum number of basis vectors of that span")
    regularization_weight: NotNegative = Field(1e-3, description="weight of the regularization (λ)")
    regularization: Literal["l2", "l1"] = Field("l2", description="squared (l2) or absolute (l1) change of weights")
    undefined_terms: Literal["zero", "error"] = Field(
        "zero", description="InfoNCE of a batch without a positive pair: counts as 0, as released, or stops the run"
    )
    inference_feature: Feature = Field("hybrid", description="feature to compare with the prototypes, which are hybrid")
    inference_weights: tuple[float, float, float] = Field(
        (1.0, 0.3, 0.1), description="weights of the pre-trained, previous and current feature part in a score"
    )

    prototypes: Literal["kept", "recomputed"] = Field(
        "kept", description="kept: computed once; recomputed: after each task from the images of all tasks (an oracle)"
    )

    @property
    def feature_parts(self) -> dict[str, float]:
        """The parts of a feature in order, with their inference weights."""
        weights = dict(zip(("pretrained", "previous", "current"), self.inference_weights, strict=True))
        is_there = {"pretrained": self.pretrained_part, "previous": self.previous_adapters != "none", "current": True}
        return {name: weight for name, weight in weights.items() if is_there[name]}
