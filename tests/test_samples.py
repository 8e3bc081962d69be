"""The offline samples: fixed, stratified, disjoint, and learnable enough to carry a chapter."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from mixup_modalities.lab import samples
from mixup_modalities.lab.drawn import SHAPES


def rows(split) -> set[bytes]:
    return {x.numpy().tobytes() for x in split.x}


def test_digits_are_stratified_and_disjoint():
    data = samples.digits()
    assert [len(split) for split in data.splits.values()] == [1097, 200, 500]
    assert data.test.y.bincount().tolist() == [50] * 10
    assert data.validation.y.bincount().tolist() == [20] * 10
    assert data.train.y.bincount().min() == 104
    assert not rows(data.train) & rows(data.test)
    assert not rows(data.train) & rows(data.validation)
    assert not rows(data.validation) & rows(data.test)


def test_digits_are_the_bundled_ones_resized():
    from sklearn.datasets import load_digits

    data, bunch = samples.digits(), load_digits()
    assert data.train.x.shape == (1097, 1, 28, 28)
    assert data.train.x.dtype == torch.uint8
    assert sum(map(len, data.splits.values())) == len(bunch.target)
    # Averaged back over cells of 3.5 x 3.5 pixels, the enlarged digits are the small ones, a little blurred.
    first = {label: (bunch.target == label).nonzero()[0] for label in range(10)}
    for label, rows_of in first.items():
        large = data.train.x[data.train.y == label][:1].float()
        small = functional.avg_pool2d(functional.interpolate(large, (56, 56)), 7)[0, 0].numpy()
        assert np.corrcoef(small.ravel(), bunch.images[rows_of[0]].ravel())[0, 1] > 0.97
    assert data.train.x.amax() == 255


def test_a_nearest_neighbour_reads_the_digits():
    data = samples.digits()
    train, test = (split.x.flatten(1).float() for split in (data.train, data.test))
    nearest = torch.cdist(test, train).argmin(1)
    assert (data.train.y[nearest] == data.test.y).float().mean() > 0.9


@pytest.mark.parametrize("make", [samples.digits, samples.drawn])
def test_a_sample_is_the_same_every_time_and_leaves_the_global_generator_alone(make):
    before = torch.get_rng_state()
    first = make()
    samples._pictures.cache_clear()
    samples._resized_digits.cache_clear()
    second = make()
    for a, b in zip(first.splits.values(), second.splits.values()):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
        assert a.x.data_ptr() != b.x.data_ptr()
    assert torch.equal(torch.get_rng_state(), before)


def test_drawn_pictures_have_the_form_of_cifar():
    for name, kinds in (("cifar10", 10), ("cifar100", 100)):
        data = samples.drawn(name)
        assert [len(split) for split in data.splits.values()] == [4000, 500, 1000]
        assert data.train.x.shape[1:] == (3, 32, 32)
        assert data.train.x.dtype == torch.uint8
        assert len(data.classes) == kinds
        for split in data.splits.values():
            assert split.y.bincount().tolist() == [len(split) // kinds] * kinds
            if kinds == 100:
                assert torch.equal(split.extra["coarse"], split.y // 10)


def test_drawn_pictures_do_not_repeat_and_their_colours_do_not_tell_the_class():
    data = samples.drawn()
    everything = [row for split in data.splits.values() for row in rows(split)]
    assert len(set(everything)) == 5500
    # The mean colour of a picture must not be a short cut: the nearest class mean of it is right about 1 time in 10.
    colour = data.train.x.float().mean((2, 3))
    means = torch.stack([colour[data.train.y == label].mean(0) for label in range(10)])
    guess = torch.cdist(data.test.x.float().mean((2, 3)), means).argmin(1)
    assert (guess == data.test.y).float().mean() < 0.2


def test_shapes_are_drawn_where_their_formula_says():
    """A white disc on black has the area pi r^2; a ring is dark in its middle. Both at full resolution."""
    ticks = (torch.arange(200) - 99.5) / 100
    v, u = torch.meshgrid(ticks, ticks, indexing="ij")
    area = {name: (distance(u, v) < 0).float().mean().item() * 4 for name, distance in SHAPES.items()}
    assert abs(area["disc"] - torch.pi * 0.9**2) < 0.02
    assert abs(area["square"] - 1.5**2) < 0.03
    assert abs(area["ring"] - torch.pi * (0.92**2 - 0.52**2)) < 0.02
    assert all(0.4 < value < 2.8 for value in area.values())
    for name in ("ring", "frame", "crescent"):
        assert SHAPES[name](torch.tensor(0.1), torch.tensor(0.0)) > 0
