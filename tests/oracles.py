"""Slow and plain: what the fast code must equal, and the batches to try it on."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from mixup_modalities import Mixture

DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64])
LAYOUTS = st.sampled_from(["contiguous", "channels_last", "transposed", "expanded", "sliced", "offset"])
GRANULARITIES = st.sampled_from(["batch", "pair", "sample"])


def batch_like(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Normal numbers, the same for a seed."""
    real = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    return torch.randn(shape, dtype=real, generator=torch.Generator().manual_seed(seed)).to(dtype)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same shape and dtype in another layout in memory (the same values too, unless it is expanded)."""
    if layout == "channels_last" and x.ndim in (4, 5):
        return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "expanded" and x.numel():
        return x[..., :1].expand_as(x)
    if layout == "sliced":
        wide = x.repeat_interleave(2, dim=0).repeat_interleave(2, dim=-1)
        return wide[::2, ..., ::2] if x.ndim > 1 else wide[::4]
    if layout == "offset":
        return torch.cat([x[:1], x])[1:]
    return x.contiguous()


def random_mixture(batch_size: int, per: str, seed: int) -> Mixture:
    """Any lam, with exact zeros and ones among them, and any partner: several rows may share one."""
    g = torch.Generator().manual_seed(seed)
    lam = (
        torch.rand(() if per == "batch" else batch_size, generator=g) ** 3
    )  # torch.rand leaves the last bits of 1 - lam 0
    lam = torch.where(torch.rand(lam.shape, generator=g) < 0.2, lam.round(), lam)
    partner = torch.randint(batch_size, (batch_size,), generator=g)
    if per == "pair":
        order = torch.randperm(batch_size, generator=g)
        partner = torch.empty_like(order).scatter_(0, order, order.roll(1))
    return Mixture(lam, partner)


def loop_mix(x: Tensor, mixture: Mixture) -> Tensor:
    """One row after the other, in double precision."""
    wide = torch.promote_types(x.dtype, torch.float64)
    lam = mixture.lam.to(torch.float64).expand(len(x))
    rows = [lam[i] * x[i].to(wide) + (1 - lam[i]) * x[int(mixture.partner[i])].to(wide) for i in range(len(x))]
    return torch.stack(rows)


def loop_targets(y: Tensor, num_classes: int, mixture: Mixture) -> Tensor:
    """Soft targets, one entry after the other, in double precision."""
    targets = torch.zeros(len(y), num_classes, dtype=torch.float64)
    for i, lam in enumerate(mixture.lam.expand(len(y)).tolist()):
        targets[i, int(y[i])] += lam
        targets[i, int(y[mixture.partner[i]])] += 1 - lam
    return targets
