"""Prompt tokens made from the image's own tokens in every block (the patch subnetwork of NTK-CL)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ntkcl.peft.vit import attention_half, class_feature, mlp_branch, token_count

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class PatchPrompt(nn.Module):
    """P = LN(W h + b): a linear map over the token axis makes `count` prompts of `tokens` tokens.

    It starts at zero throughout, including the scale of LN, which blocks the gradients of W, b and of that scale:
    only the bias of LN learns. As released, then, a block inserts one learned vector `count` times.
    """

    def __init__(self, dim: int, tokens: int, count: int) -> None:
        super().__init__()
        self.mix = nn.Linear(tokens, count)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        for zero in (self.mix.weight, self.mix.bias, self.norm.weight):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, d) to prompts (B, count, d)."""
        return self.norm(self.mix(tokens.transpose(1, 2)).transpose(1, 2))


class PatchPrompts(nn.ModuleList):
    """One prompt maker for every block of a ViT.

    Args:
        count: prompts per block.
        scale: factor of the prompts that come in from the block before.
    """

    def __init__(self, vit: "VisionTransformer", count: int, scale: float) -> None:
        super().__init__(PatchPrompt(vit.embed_dim, token_count(vit), count) for _ in vit.blocks)
        self.count = count
        self.scale = scale

    def feature(self, vit: "VisionTransformer", tokens: Tensor) -> Tensor:
        """The class feature (B, d) for embedded tokens (B, N, d).

        Prompts stand behind the class token and enter before LN2 and the MLP. The MLP half's residual connection adds
        what came out of the attention half: nothing for the first block's prompts, the incoming ones from then on.
        """
        for index, (block, prompt) in enumerate(zip(vit.blocks, self, strict=True)):
            half = attention_half(block, tokens)
            if index == 0:
                nothing = half.new_zeros(len(half), self.count, half.shape[2])
                image, prompts = half, prompt(half)
                half = self._insert(half, nothing)
            else:
                incoming = half[:, 1 : 1 + self.count]
                image = torch.cat((half[:, :1], half[:, 1 + self.count :]), dim=1)
                prompts = prompt(image) + self.scale * incoming
            tokens = half + mlp_branch(block, self._insert(image, prompts))
        return class_feature(vit, tokens)

    @staticmethod
    def _insert(image: Tensor, prompts: Tensor) -> Tensor:
        return torch.cat((image[:, :1], prompts, image[:, 1:]), dim=1)
