"""The same mixing, fused for the device it is on. Imports nothing else of the package.

``lerp_rows`` is the specification, in plain torch: it makes a gathered copy of the batch and works on any device, under
``torch.compile`` and under function transforms. On the CPU in eager mode, mixing is limited by memory: the fewest bytes
are each row read once and each mixed row written once. There, runs of consecutive partners (``roll``: two of them) are
mixed from slices; long rows with any other pairing are mixed one by one, each followed by its partner, which is then
still in the cache. Short float32 rows are one ``torch.embedding_bag``, which is a sparse matrix times a dense one, so
that W, its adjoint, the zeroed padding of texts and the look-up of embeddings are all the same call; short rows of
other dtypes are mixed in blocks that stay in the cache. Each writes one output tensor and no other of the batch's size;
bytes to be normalised are looked up in a copy of themselves, a quarter of the result.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

BLOCK_BYTES = 1 << 19  # of gathered rows at a time: small enough for the cache, large enough to hide the calls
LONG = 1 << 19  # bytes of a row: below, a call for each row costs more than reading it twice
BYTE_BAG = "embedding_bag_byte_rowwise_offsets"
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
SMALL = 1 << 18  # elements: below, making the index of a masked batch costs more than the passes that it saves


def lerp_rows(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """``lam[i] * x[i] + (1 - lam[i]) * x[partner[i]]`` in plain torch: the specification of the fused forms.

    Args:
        x: ``(B, ...)``, floating or complex.
        partner: int64 ``(B,)``.
        lam: float32 ``()`` or ``(B,)``.

    Returns:
        A new tensor with the dtype and strides of ``x``. Half precision is mixed in float32 and rounded once; a row
        whose ``lam`` is 0 or 1 is exact, unless the row of weight 0 holds an infinity or NaN.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    weight = (lam if lam.ndim == 0 else lam.reshape(-1, *[1] * (x.ndim - 1))).to(wide)
    mixed = torch.lerp(x.index_select(0, partner).to(wide), x.to(wide), weight).to(x.dtype)
    # index_select may change the strides; the mixture keeps those of the caller's batch.
    return mixed if mixed.stride() == x.stride() else torch.empty_like(x).copy_(mixed)


def mix_rows(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """As :func:`lerp_rows`, by the fastest way for the device: same arguments, same result, same gradient."""
    if not _fusible(x) or _varies(lam, partner):
        return lerp_rows(x, partner, lam)
    if _has_tangent(x) or (x.requires_grad and torch.is_grad_enabled()):
        return _MixRows.apply(x, partner, lam)
    return _combine(x, partner, lam, lam)  # the same without the cost of a node that nobody needs


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
    if dtype == torch.float32 and images.is_contiguous() and hasattr(torch.ops.quantized, BYTE_BAG):
        return _mix_bytes(images, partner, lam, scale, shift)
    out = torch.empty_like(images, dtype=dtype)
    weight = lam.view(-1, *[1] * (images.ndim - 1)) if lam.ndim else lam.item()
    for rows in _blocks(images, 1):
        own = images[rows].float()
        other = images.index_select(0, partner[rows]).to(own.dtype, memory_format=torch.preserve_format)
        mixed = out[rows] if dtype == torch.float32 else own
        torch.lerp(other, own, weight[rows] if lam.ndim else weight, out=mixed)
        mixed.mul_(scale).add_(shift)
        if mixed is own:
            out[rows].copy_(mixed)
    return out


def _mix_bytes(images: Tensor, partner: Tensor, lam: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``normalise_and_mix_rows`` as one look-up in a table of bytes, a row for each channel of each image.

    Tables of quantised embeddings hold ``scale * u + shift`` as the bytes u with float32 scale and shift behind each
    row: what normalisation is. Costs a copy of the bytes, a quarter of the result.
    """
    size, channels = images.shape[:2]
    affine = torch.stack(torch.broadcast_tensors(scale.flatten(), shift.flatten()), 1).view(torch.uint8)
    table = torch.cat([images.reshape(size, channels, -1), affine.expand(size, channels, 8)], 2)
    row = torch.arange(size * channels).view(size, channels)
    pair = torch.stack([row, row[partner]], -1).flatten()
    weights = torch.stack([lam, 1 - lam], -1).expand(size, 2).repeat_interleave(channels, 0).flatten()
    offsets = torch.arange(0, len(pair) + 1, 2)
    look_up = getattr(torch.ops.quantized, BYTE_BAG)
    return look_up(table.flatten(0, 1), pair, offsets, False, 0, False, weights, None, True).view(images.shape)


def lerp_tokens(x: Tensor, mask: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """As :func:`lerp_rows`, with zero in place of whatever stands at padded positions: specification.

    Args:
        x: ``(B, T, D)``, floating.
        mask: ``(B, T)``, 0 at padding.
        partner: int64 ``(B,)``.
        lam: float32 ``()`` or ``(B,)``.
    """
    # masked_fill, not a product: 0 * NaN is NaN. It also keeps the gradient away from the padding.
    return mix_rows(x.masked_fill(mask.unsqueeze(-1) == 0, 0), partner, lam)


def mix_tokens(x: Tensor, mask: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """As :func:`lerp_tokens`, in one pass where it can be: same arguments, same result, same gradient."""
    fused = x.dtype == torch.float32 and x.ndim == 3 and x.numel() >= SMALL and x.is_contiguous() and _fusible(x)
    if not fused or _varies(lam, partner, mask) or _inverse(partner) is None:
        return lerp_tokens(x, mask, partner, lam)
    return _MixTokens.apply(x, mask, partner, lam)


def mix_lookup(table: Tensor, ids: Tensor, mask: Tensor | None, partner: Tensor, lam: Tensor) -> Tensor:
    """``lerp_tokens(table[ids], ...)`` without making ``table[ids]``, where it can be; differentiable in ``table``.

    Args:
        table: ``(V, D)``, floating.
        ids: int64 ``(B, T)``, below V; at padded positions too.
        mask: ``(B, T)``, 0 at padding, or None.
        partner: int64 ``(B,)``.
        lam: float32 ``()`` or ``(B,)``.

    Returns:
        ``(B, T, D)``.
    """
    plain = table.dtype != torch.float32 or not table.is_contiguous() or not _fusible(table) or _has_tangent(table)
    if plain or _varies(lam, partner, ids):
        x = torch.nn.functional.embedding(ids, table)
        return mix_rows(x, partner, lam) if mask is None else lerp_tokens(x, mask, partner, lam)
    ids = ids.long()
    here = torch.ones_like(ids) if mask is None else mask
    own, other = _token_weights(lam, lam, here, here[partner])
    rows, weights, offsets = _bags(torch.stack([ids, ids[partner]], -1), torch.stack([own, other], -1))
    mixed = torch.nn.functional.embedding_bag(
        rows, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
    return mixed.view(*ids.shape, -1)


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
        source = _inverse(partner) if _fusible(gradient) else None
        if source is not None:
            return _combine(gradient, source, lam, lam[source] if lam.ndim else lam)
        wide = torch.promote_types(gradient.dtype, torch.float32)
        g = gradient.to(wide)
        weight = (lam if lam.ndim == 0 else lam.view(-1, *[1] * (g.ndim - 1))).to(wide)
        return (weight * g).index_add_(0, partner, (1 - weight) * g).to(gradient.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return mix_rows(gradient, *ctx.saved_tensors), None, None


class _MixTokens(torch.autograd.Function):
    """``y = W (m x)`` and its adjoint ``m (W^T g)``; the partners are a permutation."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
        ctx.save_for_backward(mask, partner, lam)
        ctx.save_for_forward(mask, partner, lam)
        return _combine_tokens(x, partner, lam, lam, mask, mask[partner])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        mask, partner, lam = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives: the same in differentiable steps
            return _UnmixRows.apply(gradient, partner, lam).masked_fill(mask.unsqueeze(-1) == 0, 0), None, None, None
        source = _inverse(partner)
        other = lam[source] if lam.ndim else lam
        return _combine_tokens(gradient.contiguous(), source, lam, other, mask, mask), None, None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _mask: None, _partner: None, _lam: None) -> Tensor:
        return lerp_tokens(tangent, *ctx.saved_tensors)


def _combine_tokens(
    x: Tensor, partner: Tensor, own: Tensor, other: Tensor, own_mask: Tensor, other_mask: Tensor
) -> Tensor:
    """As ``_combine``, position by position, where each of the two masks is not zero."""
    size, length, width = x.shape
    own, other = _token_weights(own, other, own_mask, other_mask)
    here = torch.arange(size * length, device=x.device).view(size, length)
    rows, weights, offsets = _bags(torch.stack([here, here[partner]], -1), torch.stack([own, other], -1))
    return torch.embedding_bag(x.view(-1, width), rows, offsets, False, 0, False, weights, True)[0].view_as(x)


def _token_weights(own: Tensor, other: Tensor, own_mask: Tensor, other_mask: Tensor) -> tuple[Tensor, Tensor]:
    """``lam`` where the text has a token and ``1 - lam`` where its partner has one, else 0: float32 ``(B, T)`` each."""
    own, other = (v if v.ndim == 0 else v.unsqueeze(1) for v in (own, 1 - other))
    return torch.where(own_mask != 0, own, 0.0), torch.where(other_mask != 0, other, 0.0)


def _bags(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(..., 2)`` rows and their weights as the bags of ``embedding_bag``: rows of weight 0 are not even read."""
    kept = weights != 0
    if bool(kept.all()):
        return rows.flatten(), weights.flatten(), torch.arange(0, rows.numel() + 1, 2, device=rows.device)
    offsets = torch.zeros(kept[..., 0].numel() + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(kept.sum(-1).flatten(), 0, out=offsets[1:])
    return rows[kept], weights[kept], offsets


def _pairs(partner: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_bags``, of the rows of W. In numpy: for so few numbers each call to torch costs more than they do."""
    size = len(partner)
    rows, weights = np.empty((size, 2), np.int64), np.empty((size, 2), np.float32)
    rows[:, 0], rows[:, 1] = np.arange(size), partner.numpy()
    weights[:, 0], weights[:, 1] = own.numpy(), np.float32(1) - other.numpy()
    kept, offsets = weights != 0, np.arange(0, 2 * size + 1, 2)
    if not kept.all():
        offsets[1:] = kept.sum(1).cumsum()
        rows, weights = rows[kept], weights[kept]
    return torch.from_numpy(rows.reshape(-1)), torch.from_numpy(weights.reshape(-1)), torch.from_numpy(offsets)


def _inverse(partner: Tensor) -> Tensor | None:
    """Whose partner each row is, int64 ``(B,)``; None if some row is the partner of none or of several."""
    source = torch.empty_like(partner).fill_(-1)
    source[partner] = torch.arange(len(partner), device=partner.device)
    return source if bool((source >= 0).all()) else None


def _combine(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """``own[i] * x[i] + (1 - other[i]) * x[partner[i]]``, into one new tensor like x.

    With one coefficient for the batch the two weights sum to one, and runs of consecutive partners (``roll``: two of
    them) are mixed from slices, without gathering. Otherwise long rows are mixed one by one, short float32 rows are one
    ``embedding_bag``, and of other dtypes the partners of a block are gathered into the cache first
    (``embedding_bag`` would round lam to bfloat16).
    """
    source = _flat(x)
    runs = [] if own.ndim else _runs(partner)
    # Where the two weights do not sum to one (the adjoint), half precision would be rounded twice.
    walked = own is other or x.dtype in (torch.float32, torch.float64)
    if walked and not runs and source.shape[1] * source.element_size() >= LONG:
        out = torch.empty_like(x)
        _walk(source, partner, own, other, _flat(out))
        return out
    if x.dtype == torch.float32 and not runs:
        rows, weights, offsets = _pairs(partner, own, other)
        mixed = torch.embedding_bag(source, rows, offsets, False, 0, False, weights, True)[0]
        return mixed.as_strided(x.shape, x.stride())
    out = torch.empty_like(x)
    target = _flat(out)
    if own.ndim == 0:
        weight = own.item()
        for start, stop, first in runs:
            _lerp(source[first : first + stop - start], source[start:stop], weight, target[start:stop])
        if runs:
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


def _walk(source: Tensor, partner: Tensor, own: Tensor, other: Tensor, target: Tensor) -> None:
    """As ``_combine``, from each row on to its partner, so that every row comes from memory once."""
    size = len(partner)
    rows, mixed, partners = source.unbind(), target.unbind(), partner.tolist()
    own, other = own.expand(size).tolist(), other.expand(size).tolist()
    done = [False] * size
    for first in range(size):
        i = first
        while not done[i]:
            done[i] = True
            j = partners[i]
            if own[i] == other[i]:
                _lerp(rows[j], rows[i], own[i], mixed[i])
            elif other[i] == 1:  # a row of weight 0 is not read: it may hold infinities
                torch.mul(rows[i], own[i], out=mixed[i])
            else:
                torch.mul(rows[j], 1 - other[i], out=mixed[i])
                if own[i]:
                    mixed[i].add_(rows[i], alpha=own[i])
            i = j


def _lerp(start: Tensor, end: Tensor, weight: float, out: Tensor) -> None:
    if weight in (0.0, 1.0):  # exact, infinities included
        out.copy_(end if weight else start)
    else:
        torch.lerp(start, end, weight, out=out)


def _runs(partner: Tensor) -> list[tuple[int, int, int]]:
    """Runs of rows whose partners are consecutive, if they are few: start, stop, and the partner of the first."""
    rows = partner.numpy()
    starts = [0, *(np.flatnonzero(rows[1:] - rows[:-1] != 1) + 1).tolist()]
    if 4 * len(starts) > len(rows):
        return []
    return [(start, stop, int(rows[start])) for start, stop in zip(starts, [*starts[1:], len(rows)])]


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
        and _dense(x)
    )


def _varies(lam: Tensor, *others: Tensor) -> bool:
    """Whether derivatives or a batch axis of a function transform hang on what the fused forms take as constants."""
    return (
        lam.requires_grad
        or _has_tangent(lam)
        or any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in (lam, *others))
    )


def _has_tangent(x: Tensor) -> bool:
    """Whether forward-mode differentiation goes through it."""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None


def _dense(x: Tensor) -> bool:
    """Whether each row is one piece of memory: contiguous and channels-last batches."""
    return x.is_contiguous() or (x.ndim in CHANNELS_LAST and x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim]))


def _flat(x: Tensor) -> Tensor:
    """The rows of a dense batch as they lie in memory, ``(B, n)``."""
    row = x.numel() // len(x)
    return x.detach().as_strided((len(x), row), (row, 1))
