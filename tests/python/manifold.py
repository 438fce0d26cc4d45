"""The Stiefel manifold's maps, over matrices or stacks of matrices [..., n, r]."""

from collections.abc import Callable

import torch
from torch import Tensor


def tangent_euclidean(x: Tensor, d: Tensor) -> Tensor:
    """The orthogonal projection `D − X sym(XᵀD)`."""
    overlap = x.mT @ d
    return d - x @ ((overlap + overlap.mT) / 2)


def tangent_canonical(x: Tensor, d: Tensor) -> Tensor:
    """`D − X DᵀX`; doubles the part `X skew(XᵀD)` of the tangent vector."""
    return d - x @ (d.mT @ x)


TANGENT_MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "euclidean": tangent_euclidean,
    "canonical": tangent_canonical,
}


def remove_span(d: Tensor, m: Tensor | None) -> Tensor:
    """`D − M(MᵀD)`; D itself where there is no M."""
    return d if m is None else d - m @ (m.mT @ d)


def inverse_sqrt(gram: Tensor) -> Tensor:
    """`A^(−1/2)` of symmetric positive definite matrices."""
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT


def whiten(y: Tensor) -> Tensor:
    """The retraction `Y (YᵀY)^(−1/2)`, which is Y's polar factor."""
    return y @ inverse_sqrt(y.mT @ y)


def random_point(*shape: int) -> Tensor:
    """Orthonormal columns [..., n, r] from the default generator."""
    return torch.linalg.qr(torch.randn(*shape)).Q
