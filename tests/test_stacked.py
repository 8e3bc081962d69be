"""Networks trained side by side: each is what it would be alone, and the rows do not leak."""

import pytest
import torch
from torch.nn import functional

from mixup_modalities.lab.stacked import (
    StackedMLP,
    cross_entropy,
    draw_digits,
    draw_stacked,
    mixup_step,
    take,
    train,
)
from mixup_modalities.mixture import draw_mixture


def test_a_network_of_the_stack_is_the_sequence_of_its_layers():
    model, x = StackedMLP([4, 5, 3], seeds=[7, 8]), torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for s in range(2):
        hidden = torch.relu(x @ model.weights[0][s] + model.biases[0][s])
        torch.testing.assert_close(model(x)[s], hidden @ model.weights[1][s] + model.biases[1][s])
    torch.testing.assert_close(model(model(x, stop=1), start=1), model(x))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_seed_trains_as_it_would_alone(alpha):
    data = draw_digits([1, 2], 40)
    both = train(StackedMLP([64, 8, 10], [1, 2]), data.x, data.one_hot, mixup_step(alpha), epochs=2, batch_size=15)
    alone = train(
        StackedMLP([64, 8, 10], [2]), data.x[1:], data.one_hot[1:], mixup_step(alpha), epochs=2, batch_size=15
    )
    torch.testing.assert_close(both(data.test_x)[1], alone(data.test_x)[0])
    assert not torch.allclose(both(data.test_x)[0], both(data.test_x)[1])


def test_the_step_is_the_mixed_loss_of_each_network():
    data, model = draw_digits([3, 4], 12), StackedMLP([64, 8, 10], [3, 4])
    losses = mixup_step(1.0, "sample")(
        model, data.x, data.one_hot, [torch.Generator().manual_seed(9), torch.Generator().manual_seed(10)]
    )
    for s in range(2):
        mixture = draw_mixture(12, 1.0, per="sample", generator=torch.Generator().manual_seed(9 + s))
        logits = model(mixture.mix(data.x[s]))[s]
        torch.testing.assert_close(losses[s], mixture.loss(functional.cross_entropy, logits, data.y[s]))


def test_draws_are_one_mixture_for_each_generator():
    lam, partner = draw_stacked([torch.Generator().manual_seed(s) for s in (0, 1)], 5, 1.0)
    assert lam.shape == (2, 5, 1) and partner.shape == (2, 5) and not torch.equal(lam[0], lam[1])
    mixture = draw_mixture(5, 1.0, generator=torch.Generator().manual_seed(1))
    assert torch.equal(partner[1], mixture.partner) and (lam[1] == mixture.lam).all()


def test_take_and_cross_entropy_against_a_loop():
    x, rows = torch.arange(12.0).reshape(2, 3, 2), torch.tensor([[2, 0], [1, 1]])
    assert torch.equal(take(x, rows), torch.stack([x[0][rows[0]], x[1][rows[1]]]))
    targets = torch.softmax(x, -1)
    expected = torch.stack([functional.cross_entropy(z, t) for z, t in zip(x, targets)])
    torch.testing.assert_close(cross_entropy(x, targets), expected)


def test_digits_are_cut_without_overlap():
    data = draw_digits([0, 1], 300, 200)
    assert data.x.shape == (2, 300, 64) and data.validation_x.shape == (2, 200, 64) and data.test_x.shape == (500, 64)
    assert data.test_y.bincount().tolist() == [50] * 10 and data.x.min() >= 0 and data.x.max() == 1
    assert not torch.equal(data.x[0], data.x[1])
    test = {tuple(row) for row in data.test_x.tolist()}
    for part in (data.x[0], data.validation_x[0]):
        assert not test & {tuple(row) for row in part.tolist()}
    assert not {tuple(r) for r in data.x[0].tolist()} & {tuple(r) for r in data.validation_x[0].tolist()}


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="num_train"):
        draw_digits([0], 1300)
    with pytest.raises(ValueError, match="sizes"):
        StackedMLP([4], [0])
