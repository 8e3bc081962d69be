"""The offline samples: fixed, stratified, disjoint, and learnable enough to carry a chapter."""

import numpy as np
import torch
from torch.nn import functional

from mixup_modalities.lab import samples


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


def test_samples_leave_the_global_generators_alone():
    before = torch.get_rng_state()
    samples.digits()
    assert torch.equal(torch.get_rng_state(), before)
