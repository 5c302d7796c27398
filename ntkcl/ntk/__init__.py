"""The empirical neural tangent kernel of functions of parameters, and quantities derived from it."""

from ntkcl.ntk.empirical import blocks, kernel
from ntkcl.ntk.functions import Outputs, Parameters, of_module
from ntkcl.ntk.matvec import kernel_product
from ntkcl.ntk.projection import Estimate, projected_kernel, projection_error

__all__ = [
    "Estimate",
    "Outputs",
    "Parameters",
    "blocks",
    "kernel",
    "kernel_product",
    "of_module",
    "projected_kernel",
    "projection_error",
]
