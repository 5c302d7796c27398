"""Functions of a learner whose kernels are computed: modules on the output of its `frozen_forward`."""

from torch import Tensor, nn

from ntkcl.methods.learner import Learner


class Scores(nn.Module):
    """The scores (B, chosen classes) that images are classified by."""

    def __init__(self, learner: Learner, classes: slice = slice(None)) -> None:
        super().__init__()
        self.learner, self.classes = learner, classes

    def forward(self, *frozen: Tensor) -> Tensor:
        """Scores from the output of `Learner.frozen_forward`."""
        return self.learner.scores_from_features(self.learner.features(frozen))[:, self.classes]


class Logits(nn.Module):
    """The logits of the present task's loss, see `Learner.training_logits`."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, *frozen: Tensor) -> Tensor:
        """Scores from the output of `Learner.frozen_forward`."""
        return self.learner.training_logits(self.learner.features(frozen))
