"""The same mixing, fused for the device it is on. Imports nothing else of the package.

``lerp_rows`` is the specification, in plain torch: it makes a gathered copy of the batch and works on any device, under
``torch.compile`` and under function transforms. On the CPU in eager mode, mixing is limited by memory: the fewest bytes
are each row read once and each mixed row written once. There the batch is mixed in blocks that stay in the cache, into
one output tensor, with no other tensor of the batch's size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_BYTES = 1 << 19  # of gathered rows at a time: small enough for the cache, large enough to hide the calls


def lerp_rows(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """``lam[i] * x[i] + (1 - lam[i]) * x[partner[i]]`` in plain torch: the specification of the fused forms.

    Args:
        x: ``(B, ...)``, floating or complex.
        partner: int64 ``(B,)``.
        lam: float32 ``()`` or ``(B,)``.

    Returns:
        A new tensor with the dtype and strides of ``x``. Half precision is mixed in float32 and rounded once; a row
        whose ``lam`` is 0 or 1 is exact.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    weight = (lam if lam.ndim == 0 else lam.reshape(-1, *[1] * (x.ndim - 1))).to(wide)
    mixed = torch.lerp(x.index_select(0, partner).to(wide), x.to(wide), weight).to(x.dtype)
    # index_select may change the strides; the mixture keeps those of the caller's batch.
    return mixed if mixed.stride() == x.stride() else torch.empty_like(x).copy_(mixed)


def mix_rows(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """As :func:`lerp_rows`, by the fastest way for the device: same arguments, same result, same gradient."""
    if lam.requires_grad or not _fusible(x):
        return lerp_rows(x, partner, lam)
    return _MixRows.apply(x, partner, lam)


def normalise_and_mix_rows(
    images: Tensor, partner: Tensor, lam: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype
) -> Tensor:
    """uint8 images to normalised, mixed images in one pass: ``scale * (W u) + shift``.

    The rows of W sum to one, so the affine map may come after the mixing, where it is done once instead of twice.

    Args:
        images: uint8 ``(B, C, ...)``.
        partner: int64 ``(B,)``.
        lam: float32 ``()`` or ``(B,)``.
        scale: float32 ``(1,)`` or ``(C,)``, with which ``scale * u + shift`` is the normalised pixel.
        shift: float32 ``(1,)`` or ``(C,)``.
        dtype: of the result; the arithmetic is float32.
    """
    scale, shift = (v.view(1, -1, *[1] * (images.ndim - 2)) for v in (scale, shift))
    if not _fusible(images):
        mixed = lerp_rows(images.float(), partner, lam)
        return torch.addcmul(shift, mixed, scale).to(dtype)
    out = torch.empty_like(images, dtype=dtype)
    weight = lam.view(-1, *[1] * (images.ndim - 1)) if lam.ndim else lam.item()
    for rows in _blocks(images, 4):
        own = images[rows].float()
        block = images.index_select(0, partner[rows]).to(own.dtype, memory_format=torch.preserve_format)
        block.lerp_(own, weight[rows] if lam.ndim else weight)
        if dtype == torch.float32:
            torch.addcmul(shift, block, scale, out=out[rows])
        else:
            out[rows].copy_(torch.addcmul(shift, block, scale))
    return out


class _MixRows(torch.autograd.Function):
    """``y = W x``; the backward pass is the adjoint, ``W^T g``, at the same cost."""

    @staticmethod
    def forward(ctx, x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
        ctx.save_for_backward(partner, lam)
        ctx.save_for_forward(partner, lam)
        return _combine(x, partner, lam, lam)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _UnmixRows.apply(gradient, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _partner: None, _lam: None) -> Tensor:
        return lerp_rows(tangent, *ctx.saved_tensors)


class _UnmixRows(torch.autograd.Function):
    """``y = W^T g``; its own backward pass is ``W`` again, so that second derivatives exist."""

    @staticmethod
    def forward(ctx, gradient: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
        ctx.save_for_backward(partner, lam)
        source = torch.empty_like(partner).fill_(-1)
        source[partner] = torch.arange(len(partner), device=partner.device)
        if _fusible(gradient) and bool((source >= 0).all()):  # a permutation: row j is the partner of one row only
            return _combine(gradient, source, lam, lam[source] if lam.ndim else lam)
        wide = torch.promote_types(gradient.dtype, torch.float32)
        g = gradient.to(wide)
        weight = (lam if lam.ndim == 0 else lam.view(-1, *[1] * (g.ndim - 1))).to(wide)
        return (weight * g).index_add_(0, partner, (1 - weight) * g).to(gradient.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _MixRows.apply(gradient, *ctx.saved_tensors), None, None


def _combine(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """``own[i] * x[i] + (1 - other[i]) * x[partner[i]]`` in blocks, into one new tensor like x.

    With one coefficient for the batch the two weights sum to one, and runs of consecutive partners (``roll``: two of
    them) are mixed from slices, without gathering. Otherwise the partners of a block are gathered into the cache first.
    """
    out, source = torch.empty_like(x), _flat(x)
    target = _flat(out)
    if own.ndim == 0:
        weight = own.item()
        runs = list(_runs(partner.tolist()))
        if 4 * len(runs) <= len(partner):
            for start, stop, first in runs:
                _lerp(source[first : first + stop - start], source[start:stop], weight, target[start:stop])
            return out
        for rows in _blocks(source, source.element_size()):
            _lerp(source.index_select(0, partner[rows]), source[rows], weight, target[rows])
        return out
    wide = torch.promote_types(x.dtype, torch.float32)
    own, other = own.to(wide).unsqueeze(1), 1 - other.to(wide).unsqueeze(1)  # not 1 - lam in float32, for float64 rows
    for rows in _blocks(source, torch.empty((), dtype=wide).element_size()):
        block = source.index_select(0, partner[rows]).to(wide)
        if x.dtype == wide:
            torch.addcmul(block.mul_(other[rows]), source[rows], own[rows], out=target[rows])
        else:
            target[rows].copy_(block.mul_(other[rows]).addcmul_(source[rows].to(wide), own[rows]))
    return out


def _lerp(start: Tensor, end: Tensor, weight: float, out: Tensor) -> None:
    if weight in (0.0, 1.0):  # exact, infinities included
        out.copy_(end if weight else start)
    else:
        torch.lerp(start, end, weight, out=out)


def _runs(partner: list[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of rows whose partners are consecutive: start, stop, and the partner of the first."""
    start = 0
    for i in range(1, len(partner) + 1):
        if i == len(partner) or partner[i] != partner[i - 1] + 1:
            yield start, i, partner[start]
            start = i


def _blocks(x: Tensor, element_size: int) -> Iterator[slice]:
    """Slices of rows that hold at most BLOCK_BYTES once converted."""
    step = max(1, BLOCK_BYTES // max(1, x[0].numel() * element_size))
    for start in range(0, len(x), step):
        yield slice(start, start + step)


def _fusible(x: Tensor) -> bool:
    """On the CPU, in eager mode, outside function transforms, rows dense in memory."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type == "cpu"
        and x.numel() > 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._C._functorch.is_legacy_batchedtensor(x)  # of torch.autograd.grad(..., is_grads_batched=True)
        and _flat(x) is not None
    )


def _flat(x: Tensor) -> Tensor | None:
    """The rows as they lie in memory, ``(B, n)``, for contiguous and channels-last batches; otherwise None."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if x.is_contiguous() or (x.ndim in formats and x.is_contiguous(memory_format=formats[x.ndim])):
        row = x.numel() // len(x)
        return x.detach().as_strided((len(x), row), (row, 1))
    return None
