"""Candidates for CUDA: each way of mixing as one kernel in Triton. The library does not use them.

A kernel moves to `kernels` when it has been measured to win, and none of these has been: no GPU was at hand when they
were written. `bench --device cuda` times them beside the plain path. What is known without one: under Triton's
interpreter each equals its specification in `kernels`, forward and backward, and the compiler accepts them for compute
capability 8.0 and 9.0 (`tests/test_triton_kernels.py`).

Bytes: the plain path gathers the partners (a read, a write), then mixes (two reads, a write). A kernel reads a row and
its partner and writes the mixture. Its programs go through a block of columns of all rows before the next block: a
partner, whichever row it is, should then be found in the L2 cache. Nothing here asks the device for a value.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mixup_modalities.kernels import lerp_rows

BLOCK_BYTES = 4096  # that a program reads of a row: two loads of 16 bytes for each of 128 threads
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@triton.jit
def lerp(own, other, lam):
    """As `torch.lerp(other, own, lam)`, and exact where lam is 0 or 1."""
    step = own - other
    mixed = tl.where(lam < 0.5, other + lam * step, own - (1 - lam) * step)
    return tl.where(lam == 1, own, tl.where(lam == 0, other, mixed))


@triton.jit
def limit(columns, weight):
    """How many columns to read of a row: none where its weight is 0, for it may hold infinities."""
    return tl.where(weight != 0, columns, 0)


@triton.jit
def mix_kernel(
    x, partner, lam, out, rows, columns, lam_stride, floor, LOG: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr
):
    """`out[i] = lam[i] x[i] + (1 - lam[i]) x[partner[i]]`, in LOG form the logarithm of it, clamped at `floor`."""
    program = tl.program_id(0)
    i = (program % rows).to(tl.int64)
    column = (program // rows).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    weight = tl.load(lam + i * lam_stride).to(WIDE)
    j = tl.load(partner + i)
    own = tl.load(x + i * columns + column, mask=column < limit(columns, weight), other=0).to(WIDE)
    other = tl.load(x + j * columns + column, mask=column < limit(columns, 1 - weight), other=0).to(WIDE)
    mixed = lerp(own, other, weight)
    if LOG:
        mixed = tl.log(tl.where(mixed < floor, floor, mixed))  # not maximum: NaN shall remain
    tl.store(out + i * columns + column, mixed.to(out.dtype.element_ty), mask=column < columns)


@triton.jit
def adjoint_kernel(g, order, first, lam, out, rows, columns, lam_stride, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """`out[j] = lam[j] g[j] +` the sum over all i whose partner is j of `(1 - lam[i]) g[i]`."""
    program = tl.program_id(0)
    j = (program % rows).to(tl.int64)
    column = (program // rows).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    weight = tl.load(lam + j * lam_stride).to(WIDE)
    total = weight * tl.load(g + j * columns + column, mask=column < limit(columns, weight), other=0).to(WIDE)
    for k in range(tl.load(first + j), tl.load(first + j + 1)):
        i = tl.load(order + k)
        rest = 1 - tl.load(lam + i * lam_stride).to(WIDE)
        total += rest * tl.load(g + i * columns + column, mask=column < limit(columns, rest), other=0).to(WIDE)
    tl.store(out + j * columns + column, total.to(out.dtype.element_ty), mask=column < columns)


@triton.jit
def bytes_kernel(
    u, partner, lam, scale, shift, out, rows, planes, columns, lam_stride, affine_stride,
    LAST: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`out = scale (lam u + (1 - lam) u[partner]) + shift`; a plane is a channel of an image, LAST: an image."""
    program = tl.program_id(0)
    plane = program % (rows * planes)
    column = (program // (rows * planes)).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    i, c = (plane // planes).to(tl.int64), plane % planes
    channel = column % CHANNELS if LAST else c
    weight = tl.load(lam + i * lam_stride)
    j = tl.load(partner + i)
    here, there = (i * planes + c) * columns + column, (j * planes + c) * columns + column
    own = tl.load(u + here, mask=column < limit(columns, weight), other=0).to(tl.float32)
    other = tl.load(u + there, mask=column < limit(columns, 1 - weight), other=0).to(tl.float32)
    mixed = lerp(own, other, weight)
    mixed = mixed * tl.load(scale + channel * affine_stride) + tl.load(shift + channel * affine_stride)
    tl.store(out + here, mixed.to(out.dtype.element_ty), mask=column < columns)


@triton.jit
def lookup_kernel(
    table, ids, mask, partner, lam, out, gradient, length, width, lam_stride,
    MASKED: tl.constexpr, BACKWARD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mixed embeddings of one position of one text; BACKWARD adds its gradient to the two rows of the table."""
    cell = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    i, t = cell // length, cell % length
    there = tl.load(partner + i) * length + t
    own = tl.load(lam + i * lam_stride)
    other = 1 - own
    if MASKED:
        own = tl.where(tl.load(mask + cell) != 0, own, 0.0)
        other = tl.where(tl.load(mask + there) != 0, other, 0.0)
    here, behind = column < limit(width, own), column < limit(width, other)
    a, b = tl.load(ids + cell) * width + column, tl.load(ids + there) * width + column
    if BACKWARD:
        g = tl.load(gradient + cell * width + column, mask=column < width, other=0).to(tl.float32)
        tl.atomic_add(table + a, own * g, mask=here, sem="relaxed")
        tl.atomic_add(table + b, other * g, mask=behind, sem="relaxed")
    else:
        mixed = own * tl.load(table + a, mask=here, other=0).to(tl.float32)
        mixed += other * tl.load(table + b, mask=behind, other=0).to(tl.float32)
        tl.store(out + cell * width + column, mixed.to(out.dtype.element_ty), mask=column < width)


def mix_rows(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """As `kernels.lerp_rows`, forward and backward in a kernel each.

    Args:
        x: `(B, ...)`, of a dtype in `FLOATS`, contiguous or channels-last; anything else is mixed in plain torch.
        partner: int64 `(B,)`.
        lam: float32 `()` or `(B,)`.
    """
    return lerp_rows(x, partner, lam) if x.dtype not in FLOATS or not dense(x) else _Mix.apply(x, partner, lam, None)


def mix_and_log(power: Tensor, partner: Tensor, lam: Tensor, floor: float) -> Tensor:
    """The logarithm of mixed mel power, which counts as `floor` where it is less: `log(clamp(W power))`.

    Args:
        power: `(B, mels, frames)`, float32 or float64, contiguous.
        partner: int64 `(B,)`.
        lam: float32 `()` or `(B,)`.
        floor: above 0.
    """
    return _Mix.apply(power.contiguous(), partner, lam, floor)


def normalise_and_mix_rows(
    images: Tensor, partner: Tensor, lam: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype
) -> Tensor:
    """As `kernels.normalise_and_mix_rows`, same arguments: uint8 `(B, C, ...)`, contiguous or channels-last."""
    last = not images.is_contiguous()
    if not dense(images):
        raise ValueError(f"images: expected a contiguous or channels-last batch, got strides {images.stride()}")
    size, channels = images.shape[:2]
    planes = 1 if last else channels
    columns = images[0].numel() // planes
    out = torch.empty_like(images, dtype=dtype)
    block = min(triton.next_power_of_2(columns), BLOCK_BYTES // 4)
    bytes_kernel[(size * planes * triton.cdiv(columns, block),)](
        images, partner, lam, scale, shift, out, size, planes, columns, lam.ndim, int(len(scale) > 1),
        LAST=last, CHANNELS=channels, BLOCK=block,
    )  # fmt: skip
    return out


def mix_lookup(table: Tensor, ids: Tensor, mask: Tensor | None, partner: Tensor, lam: Tensor) -> Tensor:
    """As `kernels.mix_lookup`, same arguments. The gradient is summed by atomic additions, in no fixed order."""
    return _MixLookup.apply(table.contiguous(), ids.contiguous(), mask, partner, lam)


def dense(x: Tensor) -> bool:
    """Whether the rows lie in memory one behind the other, each without a gap."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def launch(kernel, x: Tensor, *arguments, **constants) -> Tensor:
    """Run a kernel over the rows of a dense batch, and return what it wrote."""
    rows, out = len(x), torch.empty_like(x)
    if x.numel() == 0:
        return out
    columns = x.numel() // rows
    block = min(triton.next_power_of_2(columns), BLOCK_BYTES // x.element_size())
    wide = tl.float64 if x.dtype == torch.float64 else tl.float32
    lam = arguments[-1]
    more = {"WIDE": wide, "BLOCK": block} | constants
    kernel[(rows * triton.cdiv(columns, block),)](x, *arguments, out, rows, columns, lam.ndim, **more)
    return out


class _Mix(torch.autograd.Function):
    """`y = W x`, or its logarithm; the backward pass is the adjoint, `W^T g`, in one kernel too."""

    @staticmethod
    def forward(ctx, x: Tensor, partner: Tensor, lam: Tensor, floor: float | None) -> Tensor:
        ctx.floor = floor
        out = launch(mix_kernel, x, partner, lam, floor=0.0 if floor is None else floor, LOG=floor is not None)
        ctx.save_for_backward(partner, lam, *(() if floor is None else (out,)))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        partner, lam, *logarithm = ctx.saved_tensors
        for out in logarithm:
            gradient = (gradient * torch.exp(-out)).masked_fill(out <= torch.log(torch.full_like(out, ctx.floor)), 0)
        gradient = gradient if dense(gradient) else gradient.contiguous()
        order = partner.argsort()
        first = torch.searchsorted(partner[order], torch.arange(len(partner) + 1, device=partner.device))
        return launch(adjoint_kernel, gradient, order, first, lam), None, None, None


class _MixLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, ids: Tensor, mask: Tensor | None, partner: Tensor, lam: Tensor) -> Tensor:
        mask = mask if mask is None else mask.to(torch.uint8).contiguous()
        ctx.save_for_backward(ids, mask, partner, lam)
        ctx.shape, ctx.dtype = table.shape, table.dtype
        out = torch.empty(*ids.shape, table.shape[1], dtype=table.dtype, device=table.device)
        _look_up(table, ids, mask, partner, lam, out, out, backward=False)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        ids, mask, partner, lam = ctx.saved_tensors
        total = torch.zeros(ctx.shape, dtype=torch.float32, device=gradient.device)
        _look_up(total, ids, mask, partner, lam, total, gradient.contiguous(), backward=True)
        return total.to(ctx.dtype), None, None, None, None


def _look_up(table, ids, mask, partner, lam, out, gradient, *, backward: bool) -> None:
    width = table.shape[1]
    block = min(triton.next_power_of_2(width), 1024)
    lookup_kernel[(ids.numel(), triton.cdiv(width, block))](
        table, ids, ids if mask is None else mask, partner, lam, out, gradient, ids.shape[1], width, lam.ndim,
        MASKED=mask is not None, BACKWARD=backward, BLOCK=block,
    )  # fmt: skip
