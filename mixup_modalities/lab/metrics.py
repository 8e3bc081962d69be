"""What a run is judged by: accuracy, likelihood, calibration, the loss that mixed labels make unavoidable, intervals.

Every function takes logits. Where only probabilities p are at hand, pass log p: softmax(log p) = p.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from mixup_modalities.mixture import Mixture


class Metrics(NamedTuple):
    """How well a model does on one split.

    Attributes:
        accuracy: share of rows whose largest logit is the label's, in [0, 1].
        nll: mean negative log-likelihood of the labels, in nats.
        ece: expected calibration error, in [0, 1].
        n: number of rows.
    """

    accuracy: float
    nll: float
    ece: float
    n: int


class Interval(NamedTuple):
    """A mean over runs with its confidence interval; `low` and `high` are NaN for a single run."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def disjoint(self, other: "Interval") -> bool:
        """Whether the two intervals have no point in common (never so for a single run)."""
        return self.high < other.low or other.high < self.low


class Reliability(NamedTuple):
    """The bins of a reliability diagram; an empty bin has confidence and accuracy NaN.

    Attributes:
        confidence: mean largest probability of each bin, float64 `(num_bins,)`.
        accuracy: share of right answers in each bin, float64 `(num_bins,)`.
        count: rows in each bin, int64 `(num_bins,)`.
    """

    confidence: Tensor
    accuracy: Tensor
    count: Tensor


def _checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if logits.ndim != 2 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating point of shape (N, C), got {logits.dtype} {tuple(logits.shape)}")
    if labels.dtype != torch.int64 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels must be int64 class indices of shape ({len(logits)},), got {labels.dtype} {tuple(labels.shape)}"
        )
    if len(logits) == 0:
        raise ValueError("logits must have at least one row, got none")
    return logits.detach().double() if logits.device.type != "mps" else logits.detach().float(), labels


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest logit is at the label; logits `(N, C)`, labels int64 `(N,)`."""
    logits, labels = _checked(logits, labels)
    return (logits.argmax(1) == labels).double().mean().item()


def nll(logits: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood of the labels in nats; logits `(N, C)`, labels int64 `(N,)`."""
    logits, labels = _checked(logits, labels)
    return F.cross_entropy(logits, labels).item()


def reliability(logits: Tensor, labels: Tensor, num_bins: int = 15) -> Reliability:
    """Sort predictions into bins of equal width by their confidence, the largest probability.

    Bin m of M holds confidences in ((m-1)/M, m/M], as in section 2 of Guo et al., *On Calibration of Modern Neural
    Networks* (ICML 2017, arXiv:1706.04599).

    Args:
        logits: `(N, C)`.
        labels: int64 `(N,)`.
        num_bins: M.

    Returns:
        Mean confidence, accuracy and count of each bin, on the CPU.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    logits, labels = _checked(logits.cpu(), labels.cpu())
    confidence, guess = logits.softmax(1).max(1)
    right = (guess == labels).double()
    # The edges are the doubles nearest to m/M; right=False puts a confidence that equals an edge into the bin below.
    edges = torch.arange(1, num_bins, dtype=torch.float64) / num_bins
    at = torch.bucketize(confidence, edges, right=False)
    count = torch.bincount(at, minlength=num_bins)
    mean = [torch.zeros(num_bins, dtype=torch.float64).index_add_(0, at, v) / count for v in (confidence, right)]
    return Reliability(*mean, count)


def expected_calibration_error(logits: Tensor, labels: Tensor, num_bins: int = 15) -> float:
    """Return the gap between confidence and accuracy, averaged over `reliability`'s bins with their counts as weights.

    ECE = sum_m |B_m| / N * |acc(B_m) - conf(B_m)|, equation 3 of Guo et al. (ICML 2017); 0 is perfectly calibrated. The
    estimate is biased upwards for small N.

    Args:
        logits: `(N, C)`.
        labels: int64 `(N,)`.
        num_bins: M; 15 is what the literature reports.

    Returns:
        The error in [0, 1].
    """
    bins = reliability(logits, labels, num_bins)
    gaps = (bins.accuracy - bins.confidence).abs().nan_to_num(0.0)
    return (gaps * bins.count).sum().item() / len(labels)


def score(logits: Tensor, labels: Tensor, num_bins: int = 15) -> Metrics:
    """Return accuracy, NLL and ECE of logits `(N, C)` against int64 labels `(N,)`."""
    return Metrics(
        accuracy(logits, labels), nll(logits, labels), expected_calibration_error(logits, labels, num_bins), len(labels)
    )


def entropy(targets: Tensor) -> Tensor:
    """Return the entropy in nats, `(B,)`, of targets `(B, C)`: the least cross-entropy any prediction can reach."""
    return torch.special.entr(targets).sum(-1)


def mixed_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the lambda-weighted accuracy: the share of each mixed target that stands at the largest logit, averaged.

    Args:
        logits: `(B, C)`.
        targets: mixed labels `(B, C)`, rows summing to one (`Mixture.targets`).

    Returns:
        A scalar tensor: lam where the guess is y, 1 - lam where it is the partner's label, averaged over the batch.
    """
    return targets.gather(1, logits.argmax(1, keepdim=True)).mean()


def loss_floor(mixture: Mixture, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mean entropy of the mixed labels, a scalar tensor: no model's mixed cross-entropy can be less.

    Args:
        mixture: lam and partners.
        labels: int64 `(B,)`.
        num_classes: C.
    """
    return entropy(mixture.targets(labels, num_classes)).mean()


def expected_loss_floor(alpha: float, labels: Tensor, batch_size: int) -> float:
    r"""Return the loss floor that mixup of strength `alpha` is expected to have, in nats.

    For lam ~ Beta(alpha, alpha) the entropy of (lam, 1 - lam) has mean psi(2 alpha + 1) - psi(alpha + 1), where psi is
    the digamma function, since E[lam ln lam] = (psi(alpha + 1) - psi(2 alpha + 1)) / 2. It counts where labels differ:
    the partner is another row with probability 1 - 1/B under a uniform permutation, and that row is of another class
    with probability N/(N-1) * (1 - sum_c p_c^2) in a batch drawn without replacement.

    Args:
        alpha: the Beta parameter; 0 means no mixing.
        labels: int64 `(N,)`, the labels of the training set.
        batch_size: B, mixed by `pairing="shuffle"`.

    Returns:
        The expectation; 0 for alpha = 0, and at most ln 2.
    """
    if alpha < 0 or not np.isfinite(alpha):
        raise ValueError(f"alpha must be finite and not negative, got {alpha}")
    n = len(labels)
    if alpha == 0 or n < 2 or batch_size < 2:
        return 0.0
    share = torch.bincount(labels.cpu()).double() / n
    differ = (1 - share.square().sum().item()) * n / (n - 1) * (1 - 1 / min(batch_size, n))
    low, high = torch.special.digamma(torch.tensor([alpha + 1, 2 * alpha + 1], dtype=torch.float64)).tolist()
    return differ * (high - low)


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Return the mean of independent runs and its Student-t interval.

    Args:
        values: one number for each run (seed).
        level: coverage of the interval, in (0, 1).

    Returns:
        mean -/+ t_{n-1} * s / sqrt(n), s with n - 1 in its denominator.
    """
    x = np.asarray(list(values), dtype=np.float64)
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"values must be a sequence of at least one number, got shape {x.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), float("nan"), 1)
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, len(x))


def paired_interval(first: Iterable[float], second: Iterable[float], level: float = 0.95) -> Interval:
    """Return the mean of `first - second` and its t interval, for runs that share their seed pair by pair.

    Two runs of one seed share data, initial weights and batch order; their difference has less noise than either.
    """
    a, b = list(first), list(second)
    if len(a) != len(b):
        raise ValueError(f"first and second must have one value for each seed, got {len(a)} and {len(b)}")
    return mean_interval([x - y for x, y in zip(a, b)], level)
