"""Quadrature under a Beta distribution: its moments are those of the distribution."""

import pytest
import torch
from scipy import stats

from mixup_modalities.lab.quadrature import beta_nodes


@pytest.mark.parametrize(("a", "b"), [(0.001, 0.001), (0.2, 0.2), (1.2, 0.2), (1.0, 3.0), (32.0, 32.0)])
def test_moments_are_those_of_the_distribution(a, b):
    nodes, weights = beta_nodes(a, b)
    assert ((nodes > 0) & (nodes < 1)).all() and (weights >= 0).all()
    for order in range(6):
        expected = stats.beta(a, b).moment(order) if order else 1.0
        assert (weights * nodes**order).sum().item() == pytest.approx(expected, rel=1e-10)


def test_polynomials_up_to_twice_the_number_of_nodes_are_exact():
    nodes, weights = beta_nodes(2.0, n=3)
    exact = (weights * nodes**5).sum().item()
    assert exact == pytest.approx(stats.beta(2, 2).moment(5), rel=1e-13)
    assert (weights * nodes**6).sum().item() != pytest.approx(stats.beta(2, 2).moment(6), rel=1e-6)


def test_b_is_a_by_default():
    for one, other in zip(beta_nodes(0.4), beta_nodes(0.4, 0.4)):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bad", [{"a": 0}, {"a": -1.0}, {"a": float("nan")}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "n": 0}])
def test_bad_input_is_named(bad):
    with pytest.raises(ValueError, match=rf"^{list(bad)[-1]}: expected"):
        beta_nodes(**bad)
