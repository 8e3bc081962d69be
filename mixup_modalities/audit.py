"""See the matrix of any mixup, and check it.

A probe batch whose rows are a basis makes the output *be* W: channel j of row i holds the weight of input row j in
output row i. Labels 0 .. B-1 make the soft targets *be* W_y. What goes wrong with a mixup is visible in the two.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .mixture import Mixture, MixupModule, check_alpha, check_batch_size
from .report import Check, Report, Verdict

TOLERANCE = 1e-3  # on a weight: half-precision mixups are judged by the same rule as exact ones
EDGE = 1e-4  # lam closer than this to 0 or 1 cannot be told from a row that is its own partner
SAME = 1e-6  # difference of two readings of one lam
LEVEL = 1e-3  # of each statistical check; both bounds hold for every n, so false alarms stay below 2 * LEVEL
CALLS = 1000  # draws of lam, one a call at worst
MATRICES = 64  # calls whose whole matrices are looked at
LARGEST_ALPHA = 1e6  # lam is drawn in float32, and draws closer than 1e-5 are taken for one
FEW = 8  # calls of each further probe
LARGEST_SIDE = 16  # of the images of the probe: the matrices of all places take B * B * side * side numbers a call


def mixing_matrix(mixup: Callable | nn.Module, batch_size: int) -> Tensor:
    """The matrix W of one call of any mixup.

    Args:
        mixup: a callable ``(x, y) -> (x_mixed, soft_targets)``, or one of our modules. It is called with ``x`` of shape
            ``(B, B, S, S)``, S = min(B, 16), in which channel j of row i is 1 where i = j, and labels ``y`` = 0 .. B-1.
        batch_size: B >= 1.

    Returns:
        ``(B', B)`` float32, B' = the number of rows that came back: entry ij is the weight of input row j in output row
        i, averaged over the image. Pairs of channels mixed look like pairs of rows mixed here; ``audit`` tells them
        apart.

    Raises:
        TypeError: what came back is not a batch of floating features.
        ValueError: the features that came back have another shape than those that went in.
    """
    _check_callable(mixup)
    return _Probe(mixup, check_batch_size(batch_size)).call().w_x


def audit(mixup: Callable | nn.Module, *, alpha: float = 1.0, batch_size: int = 16) -> Report:
    """Check any mixup: torchvision's, timm's, yours.

    The mixup is called about a thousand times on a small probe batch. Global random states are put back afterwards; the
    statistical checks use bounds that hold for every sample size, with fewer than 1 % false alarms in all.

    Args:
        mixup: a callable ``(x, y) -> (x_mixed, soft_targets)`` built for ``num_classes = batch_size``; the form
            ``(x_mixed, y_a, y_b, lam)`` of the authors' code is understood too; or one of our modules, which is judged
            in the feature space where it mixes.
        alpha: the distribution it claims to draw from, lam ~ Beta(alpha, alpha).
        batch_size: B, even and at least 4.

    Returns:
        A :class:`Report`; ``report.ok`` says whether no check failed.

    Raises:
        TypeError: ``mixup`` is not callable.
        ValueError: alpha is not a positive number up to 1e6, or the batch size is odd or below 4.
    """
    _check_callable(mixup)
    alpha = check_alpha(alpha)
    if alpha == 0:
        raise ValueError("alpha: expected a number > 0, got 0, which switches mixing off")
    if alpha > LARGEST_ALPHA:
        raise ValueError(
            f"alpha: expected a number up to {LARGEST_ALPHA:g}, where lam is 1/2 to a thousandth, got {alpha:g}"
        )
    batch_size = check_batch_size(batch_size)
    if batch_size < 4 or batch_size % 2:
        raise ValueError(f"batch_size: expected an even number >= 4, got {batch_size}")
    with _saved_random_states():
        return _Auditor(mixup, alpha, batch_size).run()


def _check_callable(mixup: Callable) -> None:
    if not callable(mixup):
        raise TypeError(f"mixup: expected a callable (x, y) -> (x_mixed, soft_targets), got {type(mixup).__name__}")


@dataclass
class _Call:
    """What one call returned, read as matrices. weights: (B', B, places), the matrix at every place of the features."""

    weights: Tensor
    w_y: Tensor
    x_dtype: torch.dtype
    y_dtype: torch.dtype
    device: torch.device
    touched: str

    @property
    def w_x(self) -> Tensor:
        return self.weights.mean(2)

    @property
    def varies(self) -> bool:
        """Whether the weights differ from place to place."""
        return (self.weights - self.weights[..., :1]).abs().max().item() > TOLERANCE

    @property
    def pasted(self) -> bool:
        """Whether every place comes whole from one row."""
        return bool(((self.weights.abs() <= TOLERANCE) | ((self.weights - 1).abs() <= TOLERANCE)).all())


class _Probe:
    """Calls a mixup on a basis. Our own modules are called in the feature space where they mix.

    Args:
        dtype: of the features.
        side: height and width of the images, length of the texts; B by default (up to LARGEST_SIDE), so that a
            coefficient of shape (B, 1) broadcasts along an image axis instead of raising.
        padded: for mixup of embeddings: texts of 1 .. B tokens, the padding filled with a vector that must not appear.
        order: ``(B,)``, channel j is that of row ``order[j]``; by default of row j.
    """

    def __init__(
        self,
        mixup: Callable,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
        side: int | None = None,
        padded: bool = False,
        order: Tensor | None = None,
    ):
        self.mixup, self.batch_size, self.order = mixup, batch_size, order
        side = side or min(batch_size, LARGEST_SIDE)
        lengths = torch.arange(batch_size) + 1 if padded else torch.full((batch_size,), side)
        self.attention_mask = (torch.arange(side) < lengths[:, None]).long()  # (B, T)
        eye, self.y = torch.eye(batch_size, dtype=dtype), torch.arange(batch_size)
        eye = eye if order is None else eye[:, order]
        if takes_text(mixup):
            self.x = eye[:, None, :].repeat(1, side, 1)  # (B, T, D): every token of text i is the i-th basis vector
            self.x[self.attention_mask == 0] = 7.0
        elif hasattr(mixup, "mix_features"):
            self.x = eye[:, :, None].repeat(1, 1, side)  # (B, bins, frames)
        else:
            self.x = eye[:, :, None, None].repeat(1, 1, side, side)  # (B, C, H, W)

    def call(self) -> _Call:
        """One call, read as matrices."""
        x, y = self.x.clone(), self.y.clone()
        out = self._run(x, y)
        mixed, targets = out[0], self._targets(out)
        pairs = zip("xy", (self.x, self.y), (x, y))
        touched = " and ".join(name for name, was, now in pairs if not torch.equal(was, now))
        w_y = targets.detach().cpu().float() if isinstance(targets, Tensor) else torch.empty(0)
        return _Call(self._weights(mixed), w_y, mixed.dtype, getattr(targets, "dtype", None), mixed.device, touched)

    def own_weights(self) -> Tensor:
        """The weight of each row in itself, ``(B,)``, in one call."""
        return self._weights(self._run(self.x.clone(), self.y.clone())[0]).diagonal().mean(0)

    def _run(self, x: Tensor, y: Tensor) -> Sequence:
        if takes_text(self.mixup):
            out = self.mixup(x, self.attention_mask)
        elif hasattr(self.mixup, "mix_features"):
            out = self.mixup.mix_features(x)
        else:
            out = self.mixup(x) if isinstance(self.mixup, MixupModule) else self.mixup(x, y)
        if not isinstance(out, (tuple, list)) or len(out) < 2:
            raise TypeError(f"expected a pair (x_mixed, soft_targets) back, got {type(out).__name__}")
        return out

    def _weights(self, mixed: Tensor) -> Tensor:
        """``(B', B, places)``."""
        if not isinstance(mixed, Tensor) or not mixed.is_floating_point():
            raise TypeError(f"expected floating features back, got {getattr(mixed, 'dtype', type(mixed).__name__)}")
        if mixed.shape[1:] != self.x.shape[1:]:
            raise ValueError(f"expected features of shape {tuple(self.x.shape)} back, got {tuple(mixed.shape)}")
        weights = mixed.detach().cpu().float()
        weights = weights.transpose(1, 2) if takes_text(self.mixup) else weights.flatten(2)
        return weights if self.order is None else weights[:, self.order.argsort()]

    def _targets(self, out: Sequence) -> Tensor:
        if isinstance(out[-1], Mixture):
            return out[-1].to("cpu").targets(self.y, self.batch_size)
        if len(out) == 4:  # (x_mixed, y_a, y_b, lam), as the authors' code returns
            lam = torch.as_tensor(out[3], dtype=torch.float32).reshape(-1, 1)
            a, b = (nn.functional.one_hot(t.long(), self.batch_size).float() for t in out[1:3])
            return lam * a + (1 - lam) * b
        return out[1]


def takes_text(mixup: Callable) -> bool:
    """Whether it is a mixup of embeddings, which takes an attention mask."""
    return isinstance(mixup, MixupModule) and hasattr(mixup, "lam_by_length")


class _Auditor:
    def __init__(self, mixup: Callable, alpha: float, batch_size: int):
        self.mixup, self.alpha, self.batch_size = mixup, alpha, batch_size
        self.checks: list[Check] = []
        self.calls: list[_Call] = []

    def say(self, name: str, passed: bool, good: str, bad: str, otherwise: Verdict = "fail") -> bool:
        self.checks.append(Check(name, "pass" if passed else otherwise, good if passed else bad))
        return passed

    def run(self) -> Report:
        size, diagonals = self.batch_size, []
        try:
            probe = _Probe(self.mixup, size)
            while len(self.calls) < MATRICES:
                self.calls.append(probe.call())
            varies = any(c.varies for c in self.calls)
            regions = varies and all(c.pasted for c in self.calls)
            diagonals = [c.w_x.diagonal() for c in self.calls]
            # lam is all that is asked of the other calls; small images give it, unless it runs along one of their axes.
            probe = _Probe(self.mixup, size, side=size if varies and not regions else 4)
            while len(diagonals) < CALLS:
                diagonals.append(probe.own_weights())
            # With channels in the order of the rows, pairs of channels mixed look like pairs of rows mixed. This order,
            # a cycle of all but the first, commutes with no pairing of an even number of rows.
            order = torch.cat([torch.zeros(1).long(), torch.arange(1, size).roll(1)])
            probe = _Probe(self.mixup, size, order=order)
            self.reordered = [probe.call() for _ in range(FEW)]
        except Exception as error:
            which = f"call {len(diagonals or self.calls) + 1}: " if self.calls else ""
            self.say("runs", False, "", f"{which}{type(error).__name__}: {_first_line(error)}")
            return Report(self.checks)
        self.say("runs", True, "returns a batch of features and labels", "")
        first = self.calls[0]
        rows = next((len(c.w_x) for c in self.calls if len(c.w_x) != size), size)
        rows_kept = self.say("batch size kept", rows == size, _in_and_out(size, size), _in_and_out(size, rows))
        shape = next((c.w_y.shape for c in self.calls if c.w_y.shape != c.w_x.shape), first.w_x.shape)
        numbers = "averaged" if first.y_dtype and first.y_dtype.is_floating_point else "returned"
        labels_read = self.say(
            "labels are soft rows",
            shape == first.w_x.shape,
            "one distribution over the classes a row",
            f"expected shape {tuple(first.w_x.shape)}, got {tuple(shape)}"
            + (f": class numbers were {numbers}, not one-hot rows" if shape == first.w_x.shape[:1] else ""),
        )
        if rows_kept:
            self.check_matrix(labels_read, varies, regions)
            self.check_draws(torch.stack(diagonals).double(), "note" if regions else "fail")
        self.check_padding()
        self.check_manners()
        self.check_batch_sizes()
        self.check_reproducible()
        self.check_evaluation()
        return Report(self.checks, first.w_x, first.w_y if labels_read else None)

    def check_matrix(self, labels_read: bool, varies: bool, regions: bool) -> None:
        """Checks on whole matrices; regions: every place of the features comes from one source."""
        calls, size = self.calls, self.batch_size
        weights = torch.stack([c.weights for c in calls])
        error = (weights.sum(2) - 1).abs().max().item()
        w_x = torch.stack([c.w_x for c in calls])
        self.say(
            "rows sum to one",
            error <= TOLERANCE,
            f"largest error {error:.0e}",
            f"weights of a row sum to between {weights.sum(2).min():.3g} and {weights.sum(2).max():.3g}",
        )
        self.say(
            "one weight a row",
            not varies,
            "the weights are the same at every place",
            "each place comes from one source: regions are pasted"
            if regions
            else "the weights differ from place to place: is lam broadcast along an axis of the image?",
            otherwise="note" if regions else "fail",
        )
        sources = int((w_x.abs() > TOLERANCE).sum(2).max())
        self.say("two sources at most", sources <= 2, "each row has one or two sources", f"a row has {sources} sources")
        if labels_read:
            w_y = torch.stack([c.w_y for c in calls])
            low, high = w_y.min().item(), w_y.max().item()
            error = (w_y.sum(2) - 1).abs().max().item()
            self.say(
                "labels in [0, 1]",
                low >= -TOLERANCE and high <= 1 + TOLERANCE and error <= TOLERANCE,
                "label weights are probabilities",
                f"label weights from {low:.3g} to {high:.3g}, rows that miss one by up to {error:.2g}",
            )
            smoothing = (w_y.min() * size).clamp(0, 1).item()
            if smoothing > TOLERANCE and _close(w_y, (1 - smoothing) * w_x + smoothing / size):
                self.say("labels not smoothed", False, "", f"label smoothing of {smoothing:.2g}", otherwise="note")
                w_y = w_x
            gap = (w_x - w_y).abs().max().item()
            own = torch.stack([w.diagonal(dim1=1, dim2=2) for w in (w_x, w_y)])
            mixed = (own < 1 - TOLERANCE).all(0)  # rows that are their own partner in neither
            hints = {
                "the labels have lam and 1 - lam swapped": _close(w_y, _swapped(w_x)),
                "each row's labels are not mixed at all": _close(w_y, torch.eye(size).expand_as(w_y)),
                "the weights agree but the partners differ": bool(mixed.any()) and _close(own[0][mixed], own[1][mixed]),
            }
            why = next((f": {hint}" for hint, fits in hints.items() if fits), "")
            if gap <= TOLERANCE:
                gaps = [_gap(c.w_x, c.w_y) for c in self.reordered if c.w_x.shape == c.w_y.shape]
                if max(gaps, default=0) > TOLERANCE:
                    gap, why = max(gaps), " with channels in another order: are channels mixed instead of rows?"
            self.say(
                "W_x equals W_y",
                gap <= TOLERANCE,
                f"features and labels share one matrix, largest difference {gap:.0e}",
                f"weights differ by up to {gap:.2g}{why}",
            )
        mixes = not _close(w_x, torch.eye(size).expand_as(w_x))
        asleep = isinstance(self.mixup, nn.Module) and not self.mixup.training
        self.say(
            "not the identity",
            mixes,
            "it mixes",
            "nothing is mixed: W is the identity in every call" + ("; call .train() first" if asleep else ""),
        )
        if mixes:
            partners = ((w_x != 0) & ~torch.eye(size, dtype=torch.bool)).any(0).sum(1)  # of each row, in all calls
            self.say(
                "pairing changes",
                int(partners.max()) > 1,
                "partners differ from call to call",
                "the same partners in every call: fine as long as the loader shuffles",
                otherwise="note",
            )

    def check_draws(self, diagonal: Tensor, otherwise: Verdict) -> None:
        """Tests on lam in (EDGE, 1 - EDGE), against Beta(alpha, alpha) cut to the same interval.

        Args:
            diagonal: float64 ``(calls, B)``, the weight of each row in itself.
            otherwise: the verdict on a wrong distribution; of regions, which are cut at the border, it is only noted.
        """
        lowest, highest = diagonal.min().item(), diagonal.max().item()
        self.say(
            "lam in [0, 1]",
            lowest >= -TOLERANCE and highest <= 1 + TOLERANCE,
            f"lam from {lowest:.2g} to {highest:.2g}",
            f"lam from {lowest:.3g} to {highest:.3g}",
        )
        names = f"lam ~ Beta({self.alpha:g}, {self.alpha:g})", "E[lam] = 1/2"
        rows = [_independent(row) for row in diagonal.numpy()]
        lam = np.concatenate(rows)
        if len(lam) < 8:
            share = _share_inside(self.alpha)
            evidence = f"{len(lam)} draws of lam away from 0 and 1 in {len(rows)} calls: too few to judge"
            for name in ("lam varies", *names):
                self.say(name, False, "", evidence, otherwise="note")
            mixes = all(c.name != "not the identity" or c.verdict == "pass" for c in self.checks)
            if mixes and share * len(rows) > 100:  # fewer than 8 where more than 100 are expected: never by chance
                evidence = f"{len(lam)} of {len(rows)} draws of lam lie between 0 and 1, expected {share:.0%}"
                self.checks[-2] = Check(names[0], otherwise, evidence)
            return
        varies = self.say(
            "lam varies",
            _drift(diagonal.numpy()) > SAME,
            "lam differs from call to call",
            f"lam is {lam[0]:.3g} in every call"
            if np.ptp(lam) <= SAME
            else "lam of each row, or 1 - lam, is the same in every call",
        )
        # Dvoretzky-Kiefer-Wolfowitz and Hoeffding: valid for every n, and the same bound for both.
        bound = math.sqrt(math.log(2 / LEVEL) / (2 * len(lam)))
        distance = _kolmogorov_smirnov(lam, self.alpha)
        evidence = f"Kolmogorov-Smirnov distance {distance:.3f}, bound {bound:.3f} at level {LEVEL:g}, n = {len(lam)}"
        if varies and distance > bound:
            if _kolmogorov_smirnov(lam, 1.0) <= bound:
                evidence += "; lam is uniform, Beta(1, 1)"
            if self.alpha != (own := getattr(self.mixup, "alpha", self.alpha)):
                evidence += f"; the mixup says alpha = {own}: pass audit(..., alpha={own})"
        self.say(names[0], distance <= bound, evidence, evidence, otherwise)
        evidence = f"mean {lam.mean():.3f}, bound 1/2 ± {bound:.3f}, n = {len(lam)}"
        folded = "; lam never falls below 1/2" if lam.min() >= 0.5 - TOLERANCE else ""
        self.say(names[1], abs(lam.mean() - 0.5) <= bound, evidence, evidence + folded, otherwise)

    def check_manners(self) -> None:
        first = self.calls[0]
        touched = next((c.touched for c in self.calls if c.touched), "")
        self.say("caller's tensors untouched", not touched, "x and y are as they were", f"{touched} changed in place")
        problems = []
        if first.x_dtype != torch.float32:
            problems.append(f"float32 features came back as {first.x_dtype}")
        for dtype in (torch.float64, torch.bfloat16):
            try:
                probe = _Probe(self.mixup, self.batch_size, dtype)
                calls = [probe.call() for _ in range(FEW)]
            except Exception as error:
                problems.append(f"{dtype} features: {type(error).__name__}: {_first_line(error)}")
                continue
            if other := next((c.x_dtype for c in calls if c.x_dtype != dtype), None):
                problems.append(f"{dtype} features came back as {other}")
            halved = any(c.y_dtype in (torch.bfloat16, torch.float16) for c in calls)
            # Float32 labels do not help if lam went through bfloat16 on the way: its 8 bits are seen in them.
            if halved or (dtype == torch.bfloat16 and _in_8_bits(calls) and not _in_8_bits(self.calls)):
                problems.append(f"labels rounded to {dtype} as the features are")
        if first.device != torch.device("cpu"):
            problems.append(f"features moved from the CPU to {first.device}")
        self.say(
            "dtype and device kept",
            not problems,
            "features keep dtype and device, labels keep their precision",
            "; ".join(problems),
        )

    def check_padding(self) -> None:
        if not takes_text(self.mixup):
            return
        size = self.batch_size
        worst = 0.0
        probe = _Probe(self.mixup, size, padded=True)
        for _ in range(16):
            call = probe.call()
            first = call.weights[:, :, :1]  # the first token is real in every text
            expected = first * probe.attention_mask.T[None].transpose(1, 2)  # weight of text j where it has a token
            labels = expected.sum(2) if self.mixup.lam_by_length else first[:, :, 0]
            labels = labels / labels.sum(1, keepdim=True)
            gaps = (call.weights - expected).abs().max(), (call.w_y - labels).abs().max()
            worst = max(worst, *(gap.item() for gap in gaps))
        self.say(
            "padding adds nothing",
            worst <= TOLERANCE,
            "texts of unequal length: padded places are zero, labels agree with the tokens",
            f"padded places or labels are off by up to {worst:.2g}",
        )

    def check_batch_sizes(self) -> None:
        known = {c.name for c in self.checks if c.verdict == "fail"}  # of the whole batch, and not said again
        for name, size in (("odd batch", self.batch_size - 1), ("batch of one", 1)):
            try:
                probe = _Probe(self.mixup, size)
                problem = next(filter(None, (_fault(probe.call(), size, known) for _ in range(FEW))), "")
            except Exception as error:
                problem = f"{type(error).__name__}: {_first_line(error)}"
            self.say(name, not problem, f"B = {size} works", f"B = {size}: {problem}")

    def check_reproducible(self) -> None:
        calls = []
        for _ in range(2):
            seed_everything(0)
            probe = _Probe(self.mixup, self.batch_size)
            calls.append([probe.call() for _ in range(4)])
        same = all(_equal(a.weights, b.weights) and _equal(a.w_y, b.w_y) for a, b in zip(*calls))
        self.say(
            "reproducible when seeded",
            same,
            "the same seeds give the same mixtures",
            "mixtures differ although torch, numpy and random are seeded alike: a generator of its own?",
        )

    def check_evaluation(self) -> None:
        if not isinstance(self.mixup, nn.Module):
            return
        transform = any(c.__module__.startswith("torchvision.transforms") for c in type(self.mixup).__mro__)
        modes = {module: module.training for module in self.mixup.modules()}
        try:
            self.mixup.eval()
            probe = _Probe(self.mixup, self.batch_size)
            calls = [probe.call() for _ in range(FEW)]
            eye, problem = torch.eye(self.batch_size), ""
            if any(not _close(c.w_x, eye) for c in calls):
                problem = "mixes in evaluation mode too"
            elif any(_mixes_labels(c.w_y, eye) for c in calls):
                problem = "mixes the labels in evaluation mode"
        except Exception as error:
            problem = f"{type(error).__name__}: {_first_line(error)}"
        finally:
            self.mixup.train(modes[self.mixup])
            for module, mode in modes.items():  # a part that was frozen by .eval() stays so
                module.training = mode
        if transform and problem:
            problem += ": torchvision transforms do not know the mode, keep them out of the validation loader"
        self.say(
            "nothing mixed in eval",
            not problem,
            "evaluation mode returns the input",
            problem,
            otherwise="note" if transform else "fail",
        )


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random alike; the audit puts the old states back when it ends."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed a GPU that is not up yet
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed)  # noqa: NPY002  what other people's mixups draw from
    random.seed(seed)


@contextmanager
def _saved_random_states() -> Iterator[None]:
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)


def _independent(diagonal: np.ndarray) -> np.ndarray:
    """One value for each draw of lam in a call: rows that share lam, or hold lam and 1 - lam, were drawn together."""
    inner = diagonal[(diagonal > EDGE) & (diagonal < 1 - EDGE)]
    _, first = np.unique(np.maximum(inner, 1 - inner).round(5), return_index=True)
    return inner[np.sort(first)]


def _drift(diagonal: np.ndarray) -> float:
    """How far max(lam, 1 - lam) moves from call to call in the row where it moves most; ``(calls, B)``."""
    inner = (diagonal > EDGE) & (diagonal < 1 - EDGE)
    share = np.maximum(diagonal, 1 - diagonal)
    if inner.sum(0).max() < 2:  # no row was drawn twice: compare the rows
        return float(np.ptp(share[inner]))
    return float((np.where(inner, share, 0).max(0) - np.where(inner, share, 1).min(0)).max())


def _kolmogorov_smirnov(lam: np.ndarray, alpha: float) -> float:
    """Largest distance between the empirical distribution and Beta(alpha, alpha), both cut to (EDGE, 1 - EDGE).

    In u = logit(lam) the density is (sigmoid(u) sigmoid(-u))^alpha, smooth and bounded for every alpha > 0, so a
    trapezoid rule integrates it.
    """
    edge = math.log((1 - EDGE) / EDGE)
    u = np.linspace(-edge, edge, 40001)
    log_density = -alpha * (np.logaddexp(0, u) + np.logaddexp(0, -u))
    density = np.exp(log_density - log_density.max())
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    lam = np.sort(lam)
    expected = np.interp(np.log(lam) - np.log1p(-lam), u, cdf / cdf[-1])
    steps = np.arange(len(lam) + 1) / len(lam)
    return float(max(np.abs(steps[1:] - expected).max(), np.abs(expected - steps[:-1]).max()))


def _share_inside(alpha: float) -> float:
    """The probability that Beta(alpha, alpha) lies in (EDGE, 1 - EDGE)."""
    u = np.linspace(0, math.log((1 - EDGE) / EDGE), 40001)
    log_beta = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)
    density = np.exp(-alpha * (np.logaddexp(0, u) + np.logaddexp(0, -u)) - log_beta)
    return float((density[1:] + density[:-1]).sum() * u[1])


def _fault(call: _Call, size: int, known: set[str]) -> str:
    """What is wrong with the matrices of one call, in words, but for the checks that are known to fail."""
    rows = len(call.w_x)
    if rows != size:
        return _in_and_out(size, rows)
    sums, sources = call.weights.sum(1), int((call.w_x.abs() > TOLERANCE).sum(1).max())
    if "rows sum to one" not in known and not (sums - 1).abs().max() <= TOLERANCE:  # NaN is wrong too
        return f"weights of a row sum to between {sums.min():.3g} and {sums.max():.3g}"
    if "two sources at most" not in known and sources > 2:
        return f"a row has {sources} sources"
    if "labels are soft rows" in known:
        return ""
    if call.w_y.ndim != 2 or len(call.w_y) != rows or call.w_y.shape[1] < size:
        return f"labels of shape {tuple(call.w_y.shape)} came back"
    gap = _gap(call.w_x, call.w_y)
    return "" if "W_x equals W_y" in known or gap <= TOLERANCE else f"features and labels differ by up to {gap:.2g}"


def _in_8_bits(calls: list[_Call]) -> bool:
    """Whether in every row lam or 1 - lam, as the labels have it, is a number of bfloat16.

    Only where a row has one lam, and far enough from 0 and 1 that neither of the two is so by chance.
    """
    own = [c.w_y.diagonal() for c in calls if c.w_y.ndim == 2 and not c.varies]
    lam = torch.cat([row[(row > 0.01) & (row < 0.99)] for row in own]) if own else torch.empty(0)
    fits = (lam.bfloat16() == lam) | ((1 - lam).bfloat16() == 1 - lam)
    return len(lam) > 0 and bool(fits.all())


def _mixes_labels(w_y: Tensor, eye: Tensor) -> bool:
    """Whether these are not the labels of the rows themselves: rows (smoothed, too) or class numbers."""
    if w_y.shape == eye.shape:
        return not _gap(eye, w_y) <= TOLERANCE
    return w_y.shape == eye.shape[:1] and not _close(w_y, torch.arange(len(w_y)))


def _gap(w_x: Tensor, w_y: Tensor) -> float:
    """How far w_x is from w_y, which may have columns for more classes and may be smoothed evenly."""
    classes = w_y.shape[1]
    w_x = nn.functional.pad(w_x, (0, classes - w_x.shape[1]))
    smoothing = (w_y.min() * classes).clamp(0, 1)
    gaps = [(w_y - expected).abs().max() for expected in (w_x, (1 - smoothing) * w_x + smoothing / classes)]
    return torch.minimum(*gaps).item()


def _swapped(w: Tensor) -> Tensor:
    """The same matrices with the weights of the two sources of each row exchanged."""
    used = w.abs() > TOLERANCE
    return torch.where(used & (used.sum(2, keepdim=True) == 2), 1 - w, w)


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a - b).abs() <= TOLERANCE).all())


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether they are the same, NaN for NaN."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _in_and_out(size: int, rows: int) -> str:
    return ", ".join(f"{n} row{'s' if n != 1 else ''} {way}" for n, way in ((size, "in"), (rows, "out")))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:160]
