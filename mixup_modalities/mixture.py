"""The mathematics of mixup: a mixture is a matrix.

With a coefficient ``lam[i]`` and a partner ``partner[i]`` for each row of a batch, the mixed batch is ``W x`` with
``W = diag(lam) + diag(1 - lam) P``, where ``P[i, partner[i]] = 1`` (Zhang et al., 2018, https://arxiv.org/abs/1710.09412).
Features and labels are mixed by the same ``W``. Of the package, this module imports only the kernels.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .kernels import lerp_rows, mix_rows

Per = Literal["batch", "pair", "sample"]
Pairing = Literal["shuffle", "roll", "flip"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Which rows of a batch are mixed, and how much of each: ``lam[i] * x[i] + (1 - lam[i]) * x[partner[i]]``.

    Attributes:
        lam: float32 tensor in [0, 1], shape ``()`` (one coefficient for the batch) or ``(B,)`` (one per row).
        partner: int64 tensor ``(B,)``; row ``i`` is mixed with row ``partner[i]``.

    Raises:
        TypeError: ``lam`` is not floating point, or ``partner`` is not int64.
        ValueError: a shape disagrees, the devices differ, or (on the CPU, where looking costs no synchronisation) a
            value is out of range.
    """

    lam: Tensor
    partner: Tensor

    def __post_init__(self):
        lam, partner = self.lam, self.partner
        if not isinstance(partner, Tensor) or partner.dtype != torch.int64:
            raise TypeError(f"partner: expected an int64 tensor of shape (B,), got {_describe(partner)}")
        if partner.ndim != 1 or partner.shape[0] == 0:
            raise ValueError(f"partner: expected shape (B,) with B >= 1, got {tuple(partner.shape)}")
        if not isinstance(lam, Tensor) or not lam.dtype.is_floating_point:
            raise TypeError(f"lam: expected a float32 tensor of shape () or (B,), got {_describe(lam)}")
        if lam.ndim > 1 or (lam.ndim == 1 and lam.shape != partner.shape):
            raise ValueError(f"lam: expected shape () or ({partner.shape[0]},) as partner has, got {tuple(lam.shape)}")
        if lam.device != partner.device:
            raise ValueError(f"lam is on {lam.device} but partner is on {partner.device}: put both on one device")
        if values_readable(lam, partner):
            if not _within(lam, 0, 1):
                raise ValueError(f"lam: expected values in [0, 1], got {_extremes(lam)}")
            if not _within(partner, 0, partner.shape[0] - 1):
                raise ValueError(
                    f"partner: expected row numbers from 0 to {partner.shape[0] - 1}, got {_extremes(partner)}"
                )
        if lam.dtype != torch.float32:
            object.__setattr__(self, "lam", lam.float())

    def __len__(self) -> int:
        """The batch size B."""
        return self.partner.shape[0]

    @classmethod
    def identity(cls, batch_size: int, device: torch.device | str | None = None) -> Mixture:
        """The mixture that mixes nothing: ``lam = 1``, every row its own partner."""
        batch_size = check_batch_size(batch_size)
        return cls(torch.ones((), device=device), torch.arange(batch_size, device=device))

    def to(self, device: torch.device | str) -> Mixture:
        """The same mixture on another device; a copy to a device does not wait for it, a copy back to the CPU does."""
        ahead = torch.device(device).type != "cpu"  # a copy to the CPU that is not waited for may be read too early
        return Mixture(self.lam.to(device, non_blocking=ahead), self.partner.to(device, non_blocking=ahead))

    def lam_like(self, x: Tensor) -> Tensor:
        """``lam`` shaped to broadcast against ``x``: ``()`` or ``(B, 1, ..., 1)`` with as many axes as ``x``."""
        return self.lam if self.lam.ndim == 0 else self.lam.reshape(-1, *[1] * (x.ndim - 1))

    def mix(self, x: Tensor) -> Tensor:
        """Mix the rows of a batch: row ``i`` becomes ``lam[i] * x[i] + (1 - lam[i]) * x[partner[i]]``.

        Args:
            x: ``(B, ...)`` of any rank, of any floating or complex dtype. It is not changed.

        Returns:
            A new tensor of the same shape, dtype, device and memory format, differentiable with respect to both rows.
            Half-precision input is mixed in float32 and rounded once; ``lam`` is never rounded to the input's dtype.

        Raises:
            TypeError: ``x`` is not a tensor or holds integers.
            ValueError: ``x`` has another batch size or lives on another device than the mixture.
        """
        self.check_rows("x", x)
        if not (x.is_floating_point() or x.is_complex()):
            raise TypeError(
                f"x: expected floating or complex features, got {x.dtype}. Convert first (x.float() / 255 for images), "
                "or let ImageMixup(mean=..., std=...) take uint8 images"
            )
        return mix_rows(x, self.partner, self.lam)

    def matrix(self) -> Tensor:
        """The mixing matrix ``W = diag(lam) + diag(1 - lam) P``, float32 ``(B, B)``; each row sums to one."""
        eye = torch.eye(len(self), dtype=torch.float32, device=self.partner.device)
        return lerp_rows(eye, self.partner, self.lam)

    def targets(self, y: Tensor, num_classes: int | None = None) -> Tensor:
        """Mix labels by the same matrix.

        Args:
            y: class indices, integer ``(B,)``, together with ``num_classes``; or floating ``(B, ...)``: soft labels,
                multi-label indicators, regression targets, mixed as they are.
            num_classes: C, the number of classes; required for class indices.

        Returns:
            ``(B, C)`` float32 for class indices; the shape of ``y`` for floating labels, in float32 or, if ``y`` is
            float64, in float64. Half precision is widened, so that labels keep the precision of ``lam``.

        Raises:
            TypeError: integer labels that are not ``(B,)`` (one-hot rows are soft labels: pass ``y.float()``).
            ValueError: the batch size differs, ``num_classes`` is missing or does not fit, or an index is out of range.
        """
        self.check_rows("y", y)
        if y.is_complex():
            raise TypeError(f"y: expected class indices or floating labels, got {y.dtype}")
        if y.is_floating_point():
            if num_classes is not None and (y.ndim < 2 or y.shape[1] != num_classes):
                raise ValueError(
                    f"y: floating labels of shape {tuple(y.shape)} cannot have num_classes={num_classes}. Class "
                    "indices must be integers (y.long()); regression targets go without num_classes"
                )
            rows = y if y.dtype == torch.float64 else y.float()
        else:
            y = check_class_indices("y", y, num_classes)
            rows = nn.functional.one_hot(y, as_integer(num_classes)).float()
        return lerp_rows(rows, self.partner, self.lam)

    def loss(self, loss_fn: Callable[..., Tensor], prediction: Tensor, y: Tensor) -> Tensor:
        """The mixed loss: the mean over the batch of ``lam l(f, y) + (1 - lam) l(f, y[partner])``.

        For a loss that is linear in its target, as cross-entropy is, this equals the loss against the mixed target;
        for others, such as the squared error, it is the expected loss under the mixed label.

        Args:
            loss_fn: ``loss_fn(prediction, y)``. A ``torch.nn.functional`` loss (anything that takes ``reduction=``) is
                called with ``reduction="none"``; any other callable must return one loss per row, ``(B, ...)``.
            prediction: ``(B, ...)``, the model's output for the mixed batch.
            y: ``(B, ...)`` labels of the unmixed batch, of any type that ``loss_fn`` takes.

        Returns:
            A scalar tensor, float32 for a loss in half precision; axes of the loss beyond the first are averaged too.

        Raises:
            TypeError: ``y`` or ``prediction`` is not a tensor, ``loss_fn`` is not callable.
            ValueError: the loss is already reduced to a scalar, its first axis is not B, or it has more entries than
                ``prediction`` and ``y``, which have been broadcast.
        """
        if not callable(loss_fn):
            raise TypeError(f"loss_fn: expected a callable loss_fn(prediction, y), got {_describe(loss_fn)}")
        self.check_rows("prediction", prediction)
        self.check_rows("y", y)
        keywords = {"reduction": "none"} if _takes_reduction(loss_fn) else {}
        loss, partner_loss = (loss_fn(prediction, t, **keywords) for t in (y, y.index_select(0, self.partner)))
        if not isinstance(loss, Tensor) or loss.ndim == 0 or loss.shape[0] != len(self):
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else _describe(loss)
            raise ValueError(
                f"loss_fn: expected one loss per row, shape ({len(self)}, ...), got {got}. Pass it unreduced, for "
                'example torch.nn.functional.cross_entropy or nn.CrossEntropyLoss(reduction="none")'
            )
        if loss.numel() > max(prediction.numel(), y.numel()):
            raise ValueError(
                f"prediction and y: expected shapes that give one loss per row, got {tuple(prediction.shape)} and "
                f"{tuple(y.shape)}, which loss_fn spread over {tuple(loss.shape)}. For regression on one number a row, "
                "pass prediction.squeeze(1)"
            )
        lam = self.lam_like(loss)
        wide = torch.promote_types(loss.dtype, torch.float32)
        return (lam * loss.to(wide) + (1 - lam) * partner_loss.to(wide)).mean()

    def check_rows(self, name: str, x: Tensor) -> None:
        """An error that names the argument, unless it is a tensor of B rows on the device of the mixture."""
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a tensor of shape ({len(self)}, ...), got {_describe(x)}")
        if x.ndim == 0 or x.shape[0] != len(self):
            raise ValueError(f"{name}: expected shape ({len(self)}, ...) as the mixture has, got {tuple(x.shape)}")
        if x.device != self.partner.device:
            raise ValueError(
                f"{name} is on {x.device} but the mixture is on {self.partner.device}: "
                f"use mixture.to({str(x.device)!r})"
            )


def draw_mixture(
    batch_size: int,
    alpha: float,
    *,
    per: Per = "batch",
    pairing: Pairing = "shuffle",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Mixture:
    """Draw a random mixture with ``lam ~ Beta(alpha, alpha)`` (Zhang et al., 2018, section 2).

    Everything random is drawn on the CPU and sent to ``device`` without waiting for it, so a seed gives the same
    mixture on every device.

    Args:
        batch_size: B >= 1.
        alpha: the strength; 0 gives the identity. Right down to 1e-4 and below: the draw is made with log-gammas.
        per: one coefficient for the ``"batch"``, for each ``"pair"`` (both members share it) or each ``"sample"``.
        pairing: ``"shuffle"`` (a uniform permutation), ``"roll"`` (the row before, cyclically) or ``"flip"`` (the row
            at the other end). With ``per="pair"`` the pairing is an involution: a random matching, the neighbours
            0-1, 2-3, ..., or flip; a row left over is its own partner.
        generator: a CPU generator; with it, no global random state is read or moved. Default: torch's global one, which
            is what to use inside ``torch.compile(fullgraph=True)``: torch's compiler cannot pass a generator along.
        device: where the mixture is needed; default torch's default device.

    Raises:
        TypeError: ``batch_size`` or ``alpha`` is not a number, ``generator`` is not a ``torch.Generator``.
        ValueError: ``batch_size`` < 1; ``alpha`` negative, NaN or infinite; ``per`` or ``pairing`` unknown; a generator
            on another device than the CPU.
    """
    batch_size = check_batch_size(batch_size)
    alpha = check_alpha(alpha)
    check_choice("per", per, Per)
    check_choice("pairing", pairing, Pairing)
    check_generator(generator)
    if alpha == 0:
        return Mixture.identity(batch_size, device)

    # Always drawn, even where it is not used: the order of draws does not depend on the pairing.
    order = torch.randperm(batch_size, **random_source(generator))
    rows = torch.arange(batch_size, device="cpu")
    if pairing == "flip":
        partner, pair = rows.flip(0), torch.minimum(rows, rows.flip(0))
    elif per == "pair":
        order = order if pairing == "shuffle" else rows
        # Neighbours in `order` are partners; with an odd batch the last row has none.
        neighbour = (rows ^ 1).clamp(max=batch_size - 1)
        partner, pair = torch.empty_like(rows), torch.empty_like(rows)
        partner[order] = order[neighbour]
        pair[order] = rows // 2
    else:
        partner, pair = (order if pairing == "shuffle" else rows.roll(1)), rows

    lam = _draw_lam(() if per == "batch" else (batch_size,), alpha, generator)
    if per == "pair":
        lam = lam[pair]
    device = torch.empty(0).device if device is None else device
    return Mixture(lam.to(device, non_blocking=True), partner.to(device, non_blocking=True))


def _draw_lam(shape: tuple[int, ...], alpha: float, generator: torch.Generator | None) -> Tensor:
    """Beta(alpha, alpha) as float32, for any alpha > 0.

    A gamma variable of shape alpha is Gamma(alpha + 1) * U^(1 / alpha) (Marsaglia and Tsang, 2000, section 6). For
    small alpha it underflows, so the two are compared as logarithms: lam = G1 / (G1 + G2) = sigmoid(log G1 - log G2).
    """
    # A sum, not torch.full: a compiled graph then takes alpha as an input and a schedule does not compile it anew.
    concentration = torch.ones((2, *shape), dtype=torch.float64, device="cpu") + alpha
    log_gamma = torch._standard_gamma(concentration, generator=generator).log()
    uniform = torch.rand((2, *shape), dtype=torch.float64, **random_source(generator))
    log_uniform = (1 - uniform).log()
    difference = (log_gamma[0] - log_gamma[1]) + (log_uniform[0] - log_uniform[1]) / alpha
    return difference.sigmoid().float()


def random_source(generator: torch.Generator | None) -> dict:
    """Keywords to draw on the CPU. Passing ``generator=None`` would compile a graph anew for each batch size."""
    return {"device": "cpu"} if generator is None else {"device": "cpu", "generator": generator}


class MixupModule(nn.Module):
    """What the modules of the three modalities share: the settings and the draw.

    Args:
        alpha: strength of the mixing, lam ~ Beta(alpha, alpha); 0 switches it off.
        per: ``"batch"``, ``"pair"`` or ``"sample"``; see :func:`draw_mixture`.
        pairing: ``"shuffle"``, ``"roll"`` or ``"flip"``; see :func:`draw_mixture`.
    """

    def __init__(self, alpha: float = 0.2, *, per: Per = "batch", pairing: Pairing = "shuffle"):
        super().__init__()
        check_choice("per", per, Per)
        check_choice("pairing", pairing, Pairing)
        self.per, self.pairing = per, pairing
        self.set_alpha(alpha)

    def set_alpha(self, alpha: float) -> None:
        """Change the strength from the next call on, for schedules."""
        self.alpha = check_alpha(alpha)

    def draw(self, batch_size: int, device: torch.device | str, generator: torch.Generator | None = None) -> Mixture:
        """A mixture for a batch of this size; the identity in evaluation mode."""
        if not self.training:
            return Mixture.identity(batch_size, device)
        return draw_mixture(
            batch_size, self.alpha, per=self.per, pairing=self.pairing, generator=generator, device=device
        )

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return f"alpha={self.alpha:g}, per={self.per!r}, pairing={self.pairing!r}"


def check_alpha(alpha: float) -> float:
    """Alpha as a float; an error unless it is a finite number >= 0."""
    alpha = check_number("alpha", alpha, "a number >= 0")
    if not 0 <= alpha < math.inf:  # NaN fails too; math.isfinite would break torch.compile once alpha changes
        raise ValueError(f"alpha: expected a finite number >= 0, got {alpha}")
    return float(alpha)


def check_number(name: str, value: float, expected: str) -> float:
    """A Python, numpy or torch number as a Python one; an error, which says what was expected, for anything else."""
    number = value
    if not isinstance(value, (int, float)):
        try:
            number = value.item()
        except (AttributeError, ValueError, RuntimeError):
            number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name}: expected {expected}, got {_describe(value)}")
    return number


def as_integer(value: object) -> int | None:
    """A Python, numpy or torch integer as a Python one (a traced one as it is); None for all else, booleans too."""
    if isinstance(value, (int, torch.SymInt)):
        return None if isinstance(value, bool) else value
    try:
        return None if getattr(value, "dtype", None) == torch.bool else operator.index(value)
    except TypeError:
        return None


def check_batch_size(batch_size: int) -> int:
    """The size as a Python integer; an error unless the batch has at least one row."""
    size = as_integer(batch_size)
    if size is None:
        raise TypeError(f"batch_size: expected an integer >= 1, got {_describe(batch_size)}")
    if size < 1:
        raise ValueError(f"batch_size: expected at least one row, got {batch_size}")
    return size


def check_choice(name: str, value: str, choices: type) -> None:
    """An error unless the value is one of the literals of the type."""
    if value not in choices.__args__:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices.__args__))}, got {value!r}")


def check_generator(generator: torch.Generator | None) -> None:
    """An error unless it is None or a generator on the CPU."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator: expected a torch.Generator or None, got {_describe(generator)}")
    if generator.device.type != "cpu":
        raise ValueError(
            f"generator: expected one on the CPU (torch.Generator()), got one on {generator.device}. Mixtures are "
            "drawn on the CPU, so that a seed gives the same mixture on every device"
        )


def check_class_indices(
    name: str, y: Tensor, num_classes: int | None, ignore_index: int | None = None, ndim: int = 1
) -> Tensor:
    """Class indices as int64; an error if they are one-hot rows, fractional, of another rank or out of range."""
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(
            f"{name}: expected integer class indices, got {y.dtype}. Soft or multi-label targets go through "
            "mixture.targets(y) or mixture.loss(loss_fn, prediction, y) as floating tensors"
        )
    if y.ndim != ndim:
        raise TypeError(
            f"{name}: expected class indices with {ndim} axes, got integers of shape {tuple(y.shape)}. One-hot rows "
            "are soft labels: pass them as floats (y.float()), or as indices (y.argmax(1))"
        )
    if num_classes is None:
        raise ValueError(
            "num_classes: expected the number of classes, got None. Class indices need it; for regression pass "
            "floating targets (y.float())"
        )
    classes = as_integer(num_classes)
    if classes is None or classes < 1:
        raise ValueError(f"num_classes: expected an integer >= 1, got {num_classes!r}")
    y = y.long()
    if values_readable(y):
        valid = (y >= 0) & (y < classes)
        if ignore_index is not None:
            valid |= y == ignore_index
        if not bool(valid.all()):
            raise ValueError(f"{name}: expected class indices from 0 to {num_classes - 1}, got {_extremes(y)}")
    return y


def values_readable(*tensors: Tensor) -> bool:
    """Whether values can be looked at for free: on the CPU, not while compiling, not under vmap, not fake."""
    if torch.compiler.is_compiling():
        return False
    return all(
        t.device.type == "cpu"
        and type(t) in (Tensor, nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(t)
        for t in tensors
    )


def _takes_reduction(loss_fn: Callable) -> bool:
    try:
        return "reduction" in inspect.signature(loss_fn).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


# All that torch.compiler.assume_constant_result sets; to call it here would import torch's compiler with the library,
# which takes longer than importing torch.
_takes_reduction._dynamo_marked_constant = True


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r}"


def _within(x: Tensor, low: int, high: int) -> bool:
    """Whether all values lie in [low, high]; NaN does not."""
    least, largest = torch.aminmax(x.detach())
    return low <= least.item() and largest.item() <= high


def _extremes(x: Tensor) -> str:
    return f"values from {x.min().item():g} to {x.max().item():g}"
