"""An adapter whose hidden units grow with the tasks, beside both halves of a block, for C-ADA."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntkcl.backbones.vit_blocks import attention_residual, feature_rows, mlp_branch
from ntkcl.peft.scale_shift import ScaleShift

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class GrowingAdapter(nn.Module):
    """factor * Up(ReLU(Down(x * scale + shift))), without biases; each task adds hidden units.

    Since ReLU acts on single units, this is the sum of the tasks' adapters.

    Args:
        dim: width d of the tokens.
        width: hidden units of a task.
        factor: factor of the output.
    """

    def __init__(self, dim: int, width: int, factor: float) -> None:
        super().__init__()
        self.width, self.factor = width, factor
        self.input = ScaleShift(dim, 0.0)
        self.down, self.up = nn.Parameter(torch.zeros(0, dim)), nn.Parameter(torch.zeros(dim, 0))
        self.register_buffer("old_down", torch.zeros(0, dim))
        self.register_buffer("old_up", torch.zeros(dim, 0))

    def grow(self) -> None:
        """Add units for a task: orthonormal inputs, orthogonal to the earlier ones, if there is room; outputs 0."""
        self.old_down = torch.cat((self.old_down, self.down.detach()))
        self.old_up = torch.cat((self.old_up, self.up.detach()), 1)
        drawn = torch.randn(len(self.up), self.width).to(self.up)
        if len(self.old_down) + self.width <= len(drawn):
            basis = torch.linalg.qr(self.old_down.T)[0]
            drawn = torch.linalg.qr(drawn - basis @ (basis.T @ drawn))[0]
        self.down = nn.Parameter(F.normalize(drawn, dim=0).T.contiguous())
        self.up = nn.Parameter(torch.zeros_like(drawn))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map normed tokens (B, N, d) to what is added to the block, (B, N, d)."""
        hidden = F.linear(self.input(tokens), torch.cat((self.old_down, self.down))).relu()
        return self.factor * F.linear(hidden, torch.cat((self.old_up, self.up), 1))

    def overlap(self) -> Tensor:
        """|Down Down_old^T|^2 + |Up^T Up_old|^2 (Frobenius) of the task's and earlier tasks' weights."""
        return (self.down @ self.old_down.T).square().sum() + (self.up.T @ self.old_up).square().sum()


class ContinualAdapters(nn.ModuleDict):
    """Two growing adapters for each of some blocks: "attention" and "mlp" have the inputs of these halves.

    Args:
        dim: width d of the tokens.
        blocks: the blocks, from 0.
        widths: hidden units of a task of each of the two.
        factor: factor of the outputs.
    """

    def __init__(self, dim: int, blocks: tuple[int, ...], widths: tuple[int, int], factor: float) -> None:
        super().__init__()
        for index in blocks:
            pair = dict(zip(("attention", "mlp"), widths, strict=True))
            self[str(index)] = nn.ModuleDict({half: GrowingAdapter(dim, width, factor) for half, width in pair.items()})

    def all(self) -> list[GrowingAdapter]:
        """All adapters."""
        return [adapter for pair in self.values() for adapter in pair.values()]

    def through_blocks(self, vit: "VisionTransformer", tokens: Tensor) -> Tensor:
        """Pass tokens (B, N, d) through all blocks; returns the class token (B, 1, d) before the final norm."""
        for index, block in enumerate(vit.blocks):
            name, rows = str(index), feature_rows(vit, index)
            half = attention_residual(vit, index, tokens, rows)
            if name in self:
                half = half + self[name]["attention"](block.norm1(tokens[:, :rows]))
            tokens = half + mlp_branch(vit, index, half)
            if name in self:
                tokens = tokens + self[name]["mlp"](block.norm2(half))
        return tokens
