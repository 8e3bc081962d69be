"""Expectations under a Beta distribution, as sums: what the chapters of mathematics check their identities with."""

import math

import torch
from scipy.special import roots_jacobi
from torch import Tensor


def beta_nodes(a: float, b: float | None = None, n: int = 40) -> tuple[Tensor, Tensor]:
    """Return nodes and weights with ``(weights * f(nodes)).sum() = E[f(lam)]`` for ``lam ~ Beta(a, b)``.

    Gauss-Jacobi quadrature (Golub and Welsch, 1969): exact for polynomials of degree up to 2 n - 1, fast to converge
    for smooth functions, slow where f has a kink or a logarithm.

    Args:
        a: first parameter, positive.
        b: second parameter, positive; as `a` by default.
        n: number of nodes, at least 1.

    Returns:
        Nodes in (0, 1) and weights that sum to one, float64 `(n,)` each.

    Raises:
        ValueError: a parameter that is not a positive number, or n < 1.
    """
    b = a if b is None else b
    for name, value in (("a", a), ("b", b)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}: expected a positive number, got {value}")
    if n < 1:
        raise ValueError(f"n: expected at least one node, got {n}")
    nodes, weights = (torch.from_numpy(values) for values in roots_jacobi(n, b - 1, a - 1))
    return (1 + nodes) / 2, weights / weights.sum()
