"""Metrics against slow loops, torch, quadrature and simulation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from mixup_modalities import Mixture, draw_mixture, mixup_cross_entropy
from mixup_modalities.lab import metrics


def batch(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, classes, generator=g), torch.randint(classes, (n,), generator=g)


def slow_ece(logits: Tensor, labels: Tensor, num_bins: int) -> float:
    """Guo et al. (2017), equation 3, one row at a time."""
    rows = []
    for logit, label in zip(logits.double(), labels.tolist()):
        p = torch.exp(logit - logit.logsumexp(0)).tolist()
        rows.append((max(p), p.index(max(p)) == label))
    total = 0.0
    for m in range(1, num_bins + 1):
        inside = [(c, right) for c, right in rows if (m - 1) / num_bins < c <= m / num_bins]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += len(inside) / len(rows) * abs(accuracy - confidence)
    return total


@given(st.integers(1, 60), st.integers(2, 12), st.integers(1, 20), st.integers(0, 10**6))
def test_ece_equals_a_loop(n, classes, num_bins, seed):
    logits, labels = batch(n, classes, seed)
    assert metrics.expected_calibration_error(logits, labels, num_bins) == pytest.approx(
        slow_ece(logits, labels, num_bins), abs=1e-9
    )


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    bins = metrics.reliability(torch.zeros(1, 2), torch.tensor([0]), num_bins=2)
    assert bins.count.tolist() == [1, 0]


def test_ece_of_a_calibrated_and_of_an_overconfident_guesser():
    logits = torch.tensor([[0.8, 0.2]]).log().expand(10, 2)
    labels = torch.tensor([0] * 8 + [1] * 2)
    assert metrics.expected_calibration_error(logits, labels) == pytest.approx(0, abs=1e-6)
    assert metrics.expected_calibration_error(1000 * logits, labels) == pytest.approx(0.2, abs=1e-6)


def test_log_probabilities_are_logits():
    logits, labels = batch(50, 5, 1)
    assert metrics.score(logits, labels) == pytest.approx(metrics.score(logits.log_softmax(1), labels), abs=1e-6)
    certain = torch.eye(3).log()  # minus infinity where the probability is zero
    assert metrics.score(certain, torch.arange(3)) == (1.0, 0.0, 0.0, 3)


@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 10**6))
def test_accuracy_and_nll_equal_torch(n, classes, seed):
    logits, labels = batch(n, classes, seed)
    got = metrics.score(logits, labels)
    assert got.nll == pytest.approx(F.nll_loss(logits.log_softmax(1), labels).item(), rel=1e-4)
    assert got.accuracy == sum(int(row.argmax()) == y for row, y in zip(logits, labels.tolist())) / n
    assert got.n == n


def test_metrics_agree_on_every_device_and_in_half_precision(device):
    logits, labels = batch(64, 4, 0)
    expected = metrics.score(logits.bfloat16().float(), labels)
    assert metrics.score(logits.bfloat16().to(device), labels.to(device)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), "logits must be floating point of shape"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "logits must be floating point"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), r"labels must be int64 class indices of shape \(3,\)"),
        (torch.zeros(3, 2), torch.zeros(3), "labels must be int64 class indices"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "at least one row"),
    ],
)
def test_bad_input_is_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.score(logits, labels)


@pytest.mark.parametrize("per", ["batch", "pair", "sample"])
def test_no_prediction_beats_the_loss_floor_and_the_mixed_target_reaches_it(per):
    g = torch.Generator().manual_seed(3)
    labels = torch.randint(4, (64,), generator=g)
    mixture = draw_mixture(64, 1.0, per=per, generator=g)
    floor = metrics.loss_floor(mixture, labels, 4)
    target = mixture.targets(labels, 4).clamp_min(1e-12)
    assert mixup_cross_entropy(target.log(), labels, mixture) == pytest.approx(floor.item(), abs=1e-6)
    for _ in range(20):
        noisy = target.log() + torch.randn(64, 4, generator=g)
        assert mixup_cross_entropy(noisy, labels, mixture) > floor
    assert metrics.loss_floor(Mixture.identity(64), labels, 4) == 0


def test_mixed_accuracy_equals_a_loop():
    logits, labels = batch(40, 5, 2)
    mixture = draw_mixture(40, 1.0, per="sample", generator=torch.Generator().manual_seed(1))
    guess, total = logits.argmax(1).tolist(), 0.0
    for i, lam in enumerate(mixture.lam.tolist()):
        j = int(mixture.partner[i])
        total += lam * (guess[i] == labels[i].item()) + (1 - lam) * (guess[i] == labels[j].item())
    assert metrics.mixed_accuracy(logits, mixture.targets(labels, 5)) == pytest.approx(total / 40, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0, 32.0])
def test_expected_entropy_equals_quadrature(alpha):
    def entropy(t: float) -> float:  # lam = sin^2 t takes the poles of the density away
        lam = math.sin(t) ** 2
        weight = stats.beta(alpha, alpha).pdf(lam) * 2 * math.sin(t) * math.cos(t)
        return -(lam * math.log(lam) + (1 - lam) * math.log(1 - lam)) * weight

    expected, _ = integrate.quad(entropy, 0, math.pi / 2, limit=200)
    labels = torch.arange(1000)  # every label differs, and a batch as large as the set: the factor is 1 - 1/1000
    assert metrics.expected_loss_floor(alpha, labels, 1000) == pytest.approx(expected * 0.999, rel=1e-6)


@pytest.mark.parametrize(("alpha", "batch_size"), [(0.2, 4), (1.0, 16), (8.0, 50)])
def test_expected_floor_equals_simulated_training(alpha, batch_size):
    g = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    floors = []
    for _ in range(4000):
        rows = torch.randperm(100, generator=g)[:batch_size]
        floors.append(metrics.loss_floor(draw_mixture(batch_size, alpha, generator=g), labels[rows], 3).item())
    error = np.std(floors) / math.sqrt(len(floors))
    assert metrics.expected_loss_floor(alpha, labels, batch_size) == pytest.approx(np.mean(floors), abs=4 * error)


def test_expected_floor_at_the_ends():
    labels = torch.arange(10).repeat(100)
    assert metrics.expected_loss_floor(0, labels, 50) == 0
    assert metrics.expected_loss_floor(1e-6, labels, 50) == pytest.approx(0, abs=1e-5)
    assert metrics.expected_loss_floor(1e6, labels, 1000) == pytest.approx(0.9 * math.log(2), rel=1e-3)
    assert metrics.expected_loss_floor(1.0, labels, 1) == 0
    for alpha in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="alpha must be finite and not negative"):
            metrics.expected_loss_floor(alpha, labels, 50)


def test_interval_equals_scipy_and_covers():
    x = [0.81, 0.78, 0.84, 0.80, 0.79]
    got = metrics.mean_interval(x)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert got == pytest.approx((np.mean(x), expected.low, expected.high, 5))
    rng = np.random.default_rng(0)
    covered = sum(i.low <= 0 <= i.high for i in (metrics.mean_interval(rng.normal(size=5)) for _ in range(4000)))
    assert covered / 4000 == pytest.approx(0.95, abs=0.015)


def test_a_single_run_has_no_interval():
    got = metrics.mean_interval([0.5])
    assert got.mean == 0.5 and math.isnan(got.low) and math.isnan(got.high)
    assert not got.disjoint(metrics.mean_interval([0.9, 0.91]))


def test_disjoint():
    low, high = metrics.mean_interval([0.1, 0.11, 0.12]), metrics.mean_interval([0.5, 0.51, 0.52])
    assert low.disjoint(high) and high.disjoint(low) and not low.disjoint(low)


def test_paired_interval_takes_common_noise_away():
    seeds = np.random.default_rng(0).normal(scale=10, size=6)
    got = metrics.paired_interval(seeds + np.array([1, 1.1, 0.9, 1, 1.2, 0.8]), seeds)
    assert got.mean == pytest.approx(1) and 0.8 < got.low < got.high < 1.2
    with pytest.raises(ValueError, match="one value for each seed, got 2 and 1"):
        metrics.paired_interval([1, 2], [1])


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [([], 0.95, "at least one number"), ([1, 2], 95, "level must be in"), ([[1], [2]], 0.95, "at least one number")],
)
def test_bad_intervals(values, level, message):
    with pytest.raises(ValueError, match=message):
        metrics.mean_interval(values, level)
