"""NTK-CL (Liu et al., arXiv 2407.17120): two subnetworks, their running means, a fused feature and its prototypes."""

from ntkcl.methods.ntk_cl.learner import LEARNER

__all__ = ["LEARNER"]
