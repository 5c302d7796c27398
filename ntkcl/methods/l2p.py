"""L2P, "Learning to Prompt for Continual Learning" (Wang et al., CVPR 2022, arXiv 2112.08654)."""

from ntkcl.methods.prompt_pool import PromptPoolLearner


class L2P(PromptPoolLearner):
    """L2P is the learner with a pool of prompts, without additions."""


LEARNER = L2P
