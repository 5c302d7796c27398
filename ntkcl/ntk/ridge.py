"""Kernel ridge regression with a tangent kernel: terms of its generalization bounds, and its forecasts.

The predictor minimizes 1/2 sum ||f(x_i) - y_i||^2 + ridge/2 ||f||^2 over the functions of the kernel K; its values
are K a, with a = (K + ridge I)^-1 Y. A loss *averaged* over n images with weight decay w has ridge = n w. `ridge` is
in the unit of the kernel and not negative. If it is 0, the pseudo-inverse is used: this gives the predictor of least
norm among those of least error, to which gradient descent on the linearized model converges. Eigenvalues up to n * eps
* (the largest) then count as 0, with the eps of the type of `kernel`. So pass a kernel that was computed in float32 as
float32, or its rounding errors are inverted. All computations are in float64.

The bounds of NTK-CL (arXiv 2407.17120) for its task-interplay and task-specific generalization gaps rest on the norm
of this predictor, by the Rademacher complexity of balls in its function space (Bartlett and Mendelson 2002,
"Rademacher and Gaussian complexities"; Mohri et al., "Foundations of machine learning", chapter on kernel methods).

Every function here raises a ValueError for a negative ridge, and torch.linalg.LinAlgError if K + ridge I is not
positive
definite: K is not positive semi-definite, or the ridge is smaller than the rounding errors of K.
"""

import math

import torch
from torch import Tensor


def complexity(kernel: Tensor, targets: Tensor, ridge: float) -> float:
    """sqrt(tr(Y^T (K + ridge I)^-1 K (K + ridge I)^-1 Y) / n): the norm of the predictor over sqrt(n).

    With ridge 0 it is sqrt(tr(Y^T K^-1 Y) / n): up to a factor the term of Arora et al. 2019 (arXiv 1901.08584).

    Args:
        kernel: K (n, n), the same for all outputs.
        targets: Y, (n,) or (n, C).
    """
    coefficients = _coefficients(kernel, targets, ridge)
    squared = (coefficients * (kernel.double() @ coefficients)).sum().clamp_min(0)
    return math.sqrt(squared / len(targets))


def rademacher(kernel: Tensor, targets: Tensor, ridge: float) -> float:
    """norm * sqrt(Tr K) / n in the unit of the targets, with the norm of the predictor, `complexity` * sqrt(n).

    It bounds the empirical Rademacher complexity of the functions of one output with at most that norm. The main term
    of a bound for the gap between test and training loss is twice this, times the loss's Lipschitz constant. With
    several outputs, it is the norm of all together.
    """
    return complexity(kernel, targets, ridge) * math.sqrt(kernel.double().trace() / len(targets))


def training_error(kernel: Tensor, targets: Tensor, ridge: float) -> float:
    """||Y - K a||_F / sqrt(n) = ridge ||a||_F / sqrt(n), in the unit of the targets: residual of the predictor.

    With ridge 0 it is the part of Y that no function of the kernel can fit.
    """
    fitted = kernel.double() @ _coefficients(kernel, targets, ridge)
    return float((targets.double() - fitted).norm() / math.sqrt(len(targets)))


def interplay(old_new: Tensor, new_new: Tensor, residual: Tensor, ridge: float) -> float:
    """||K_old,new (K_new,new + ridge I)^-1 R||_F / sqrt(n_old): forecast size of the change of old outputs.

    This is the root mean square over old images of the change by `forecast`, with the same kernel for all outputs.

    Args:
        old_new: (n_old, n_new).
        new_new: (n_new, n_new).
        residual: R = targets - outputs before learning, (n_new,) or (n_new, C).
    """
    change = old_new.double() @ _coefficients(new_new, residual, ridge)
    return float(change.norm() / math.sqrt(len(old_new)))


def forecast(old_new: Tensor, new_new: Tensor, residual: Tensor, ridge: float, old_outputs: int) -> Tensor:
    """K_old,new (K_new,new + ridge I)^-1 (targets - outputs): forecast change of old outputs by learning a new task.

    It is of first order in the parameters, for training with squared loss on the new images, to convergence, from the
    current parameters: by gradient descent with ridge 0, else with weight decay towards the current parameters. It is
    exact for a model that is linear in its trained parameters. The formula is that of Bennani et al. 2020 (arXiv
    2006.11942) and Doan et al. 2021 (2010.04003); arXiv 2606.18024 uses it to forecast forgetting.

    Args:
        old_new: (N_old * C_old, N_new * C_new) over pairs of image and output, with the outputs of an image adjacent.
        new_new: (N_new * C_new, N_new * C_new), in the same order.
        residual: targets - outputs before learning, (N_new, C_new).
        old_outputs: C_old.

    Returns:
        (N_old, C_old) in float64, in the unit of the outputs.

    Raises:
        ValueError: the shapes do not match.
    """
    pairs = residual.numel()
    if new_new.shape != (pairs, pairs) or old_new.shape[1] != pairs or len(old_new) % old_outputs:
        shapes = ", ".join(str(tuple(part.shape)) for part in (old_new, new_new, residual))
        raise ValueError(f"shapes {shapes} do not match {old_outputs} old outputs")
    change = old_new.double() @ _coefficients(new_new, residual.flatten(), ridge)
    return change.view(-1, old_outputs)


def _coefficients(kernel: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Solve a = (K + ridge I)^-1 Y, or K^+ Y with ridge 0, in float64 and the shape of `targets`."""
    if ridge < 0:
        raise ValueError(f"the ridge must not be negative, but is {ridge}")
    exact, columns = kernel.double(), targets.double().reshape(len(targets), -1)
    if ridge == 0:
        values, vectors = torch.linalg.eigh(exact)
        kept = values > len(kernel) * torch.finfo(kernel.dtype).eps * values.abs().max()
        solution = vectors[:, kept] @ ((vectors[:, kept].T @ columns) / values[kept, None])
    else:
        shifted = exact + ridge * torch.eye(len(exact), dtype=exact.dtype, device=exact.device)
        solution = torch.cholesky_solve(columns, torch.linalg.cholesky(shifted))
    return solution.view_as(targets)
