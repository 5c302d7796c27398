"""What a learner computes, as modules of what its `frozen_forward` gives: the functions whose kernels are looked at."""

from torch import Tensor, nn

from ntkcl.methods.learner import Learner


class Scores(nn.Module):
    """The scores (B, classes chosen): what images are classified by."""

    def __init__(self, learner: Learner, classes: slice = slice(None)) -> None:
        super().__init__()
        self.learner, self.classes = learner, classes

    def forward(self, *frozen: Tensor) -> Tensor:
        """From what `Learner.frozen_forward` gives."""
        return self.learner.scores_from_features(self.learner.features(frozen))[:, self.classes]


class Logits(nn.Module):
    """What the loss of the present task holds against the labels (see `Learner.training_logits`)."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, *frozen: Tensor) -> Tensor:
        """From what `Learner.frozen_forward` gives."""
        return self.learner.training_logits(self.learner.features(frozen))
