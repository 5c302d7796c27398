"""The features of a batch in parts, for a device without memory for a whole batch: the same loss and gradients.

A loss may need all features of a batch together. So they are computed part by part without gradients, the loss gives
gradients with respect to them, and each part is computed once more, with the same random numbers, for those of the
parameters: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", Section 3.
"""

import gc
from collections.abc import Callable
from contextlib import suppress

import torch

from ntkcl.devices.random_state import random_state, set_random_state
from ntkcl.methods.learner import Tensors


class FeaturesInParts:
    """The features of one batch.

    Args:
        function: computes features from the rows of `frozen` and `drawn`, see `Learner.training_features`.
        frozen: output of `Learner.frozen_forward`.
        drawn: random numbers of the step, a row for each image; may be empty.
        size: images of a part; None computes all at once, as without this class.
    """

    def __init__(
        self, function: Callable[[Tensors, Tensors], Tensors], frozen: Tensors, drawn: Tensors, size: int | None
    ) -> None:
        self.function, count = function, len(frozen[0])
        self.size = size if size and size < count else None
        self.rows = [slice(first, first + self.size) for first in range(0, count, self.size)] if self.size else []
        self.frozen, self.drawn = frozen, drawn
        self.random_states, self.features = [], ()

    def forward(self) -> Tensors:
        """The features of all images."""
        if not self.size:
            return self.function(self.frozen, self.drawn)
        outputs, trained = [], ()
        for rows in self.rows:
            self.random_states.append(random_state())
            with torch.set_grad_enabled(not trained):  # the first part shows which features have gradients
                part = self._part(rows)
            trained = trained or tuple(each.requires_grad for each in part)
            outputs.append(tuple(each.detach() for each in part))
        self.features = tuple(torch.cat(tensors) for tensors in zip(*outputs, strict=True))
        return tuple(each.requires_grad_(is_trained) for each, is_trained in zip(self.features, trained, strict=True))

    def backward(self) -> None:
        """After the loss's own backward pass: add the gradients of the parameters that the features depend on."""
        if not self.size:
            return
        after = random_state()
        for rows, state in zip(self.rows, self.random_states, strict=True):
            set_random_state(state)
            pairs = zip(self._part(rows), self.features, strict=True)
            known = [(part, whole.grad[rows]) for part, whole in pairs if part.requires_grad and whole.grad is not None]
            if known:
                torch.autograd.backward(*map(list, zip(*known, strict=True)))
        set_random_state(after)

    def _part(self, rows: slice) -> Tensors:
        def of(tensors: Tensors) -> Tensors:
            return tuple(tensor[rows] for tensor in tensors)

        return self.function(of(self.frozen), of(self.drawn))


def fitting_size(step: Callable[[int], object], count: int) -> int | None:
    """The first size of half, a quarter, ... of `count` images for which `step(size)` has enough memory, or None."""
    while count > 1:
        count = -(-count // 2)
        gc.collect()  # what failed before
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError):
            step(count)
            return count
    return None
