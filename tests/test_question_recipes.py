"""The recipes of the open questions: each variant does what it is called, and nothing else differs."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from mixup_modalities import ImageMixup, Mixture, draw_mixture, mixup_cross_entropy
from mixup_modalities.lab import recipes
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.question_recipes import (
    GAMMA,
    MIXES,
    VARIANTS,
    FoldedImageMixup,
    focal_loss,
    focal_soft,
    focal_two,
    fold,
    soft_cross_entropy,
)
from mixup_modalities.lab.recipes import METHODS, find_recipe, run

TASKS = tuple(MIXES)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arguments(task: str, variant: str) -> dict:
    recipe = find_recipe(f"questions-{task}-{variant}")
    return METHODS[recipe.method](recipe, None)


def drawn(task: str, variant: str, batch_size: int = 12, seed: int = 0) -> Mixture:
    return arguments(task, variant)["mixup"].train().draw(batch_size, "cpu", generator(seed))


@pytest.mark.parametrize("task", TASKS)
def test_a_recipe_for_each_variant_and_one_without_mixing(task):
    erm = find_recipe(f"questions-{task}-erm")
    assert (erm.method, erm.alpha, erm.ledger) == ("erm", 0, "questions")
    for variant in VARIANTS:
        recipe = find_recipe(f"questions-{task}-{variant}")
        assert replace(recipe, name=erm.name, method="erm", alpha=0.0) == erm
        assert recipe.alpha > 0 and arguments(task, variant)["mixup"].alpha == recipe.alpha


@pytest.mark.parametrize(("task", "twin"), [("mnist", "mnist-noise-40-4"), ("trec", "trec-500-cnn-word")])
def test_the_tasks_are_those_of_other_chapters(task, twin):
    ours, other = find_recipe(f"questions-{task}-per_batch"), find_recipe(twin)
    free = {key: getattr(other, key) for key in ("name", "ledger", "method", "minutes_cpu", "evaluate_every")}
    assert replace(ours, **free) == replace(other, **free)


@pytest.mark.parametrize("task", TASKS)
def test_how_many_lambdas_a_batch_has(task):
    assert drawn(task, "per_batch").lam.ndim == 0
    for variant, count in (("per_pair", 6), ("per_sample", 12), ("fold_sample", 12)):
        assert len(set(drawn(task, variant).lam.tolist())) == count
    pairs = drawn(task, "per_pair")
    assert torch.equal(pairs.partner[pairs.partner], torch.arange(12))
    assert torch.equal(pairs.lam[pairs.partner], pairs.lam)


@pytest.mark.parametrize("task", TASKS)
def test_who_is_whose_partner(task):
    rows = torch.arange(12)
    assert torch.equal(drawn(task, "roll").partner, rows.roll(1))
    assert torch.equal(drawn(task, "flip").partner, rows.flip(0))
    shuffled = [drawn(task, "per_batch", seed=seed).partner for seed in range(3)]
    assert all(torch.equal(p.sort().values, rows) for p in shuffled)
    assert not torch.equal(shuffled[0], shuffled[1]) and not torch.equal(shuffled[1], shuffled[2])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("folded", "plain"), [("fold_batch", "per_batch"), ("fold_sample", "per_sample")])
def test_folding_keeps_the_larger_share_and_the_draw(task, folded, plain):
    seen_below = False
    for seed in range(20):
        first, second = drawn(task, folded, seed=seed), drawn(task, plain, seed=seed)
        assert torch.equal(first.partner, second.partner)
        assert torch.equal(first.lam, second.lam.where(second.lam >= 0.5, 1 - second.lam))
        seen_below |= bool((second.lam < 0.5).any())
    assert seen_below  # there was something to fold


def test_the_folded_module_mixes_inputs_and_labels_by_the_folded_lam():
    x, y = torch.randn(6, 1, 4, 4, generator=generator()), torch.arange(6)
    mixed, mixture = FoldedImageMixup(1.0, per="sample").train()(x, generator=generator(3))
    weight = mixture.lam.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(mixed, weight * x + (1 - weight) * x[mixture.partner])
    assert (mixture.targets(y, 6).gather(1, y[:, None]) >= 0.5).all()
    assert torch.equal(FoldedImageMixup(1.0).eval()(x)[0], x)


def test_folding_one_lam_for_a_flipped_batch_mixes_the_same_rows_in_another_order():
    x = torch.randn(8, 5, generator=generator(), dtype=torch.float64)
    mixture = Mixture(torch.tensor(0.3), torch.arange(8).flip(0))
    torch.testing.assert_close(fold(mixture).mix(x), mixture.mix(x).flip(0))


@pytest.mark.parametrize("task", TASKS)
def test_schedules_reach_their_values_over_a_run(task):
    recipe = find_recipe(f"questions-{task}-erm")
    progress = [epoch / recipe.epochs for epoch in range(recipe.epochs)]
    full = find_recipe(f"questions-{task}-per_batch").alpha

    def course(variant):
        return [arguments(task, variant)["alpha"](t) for t in progress]

    assert course("off_tenth") == 18 * [full] + 2 * [0]
    assert course("off_quarter") == 15 * [full] + 5 * [0]
    assert course("half") == 20 * [full / 2]
    up, down = course("ramp_up"), course("ramp_down")
    assert up[0] == 0 and up[10] == full / 2 and down[0] == full and down[10] == full / 2
    assert up == sorted(up) and down == sorted(down, reverse=True)
    assert up[-1] == pytest.approx(0.95 * full) and down[-1] == pytest.approx(0.05 * full)
    assert "alpha" not in arguments(task, "per_batch")


def test_mixup_is_off_in_the_last_quarter_of_a_run():
    recipe = replace(find_recipe("questions-mnist-off_quarter"), num_train=60, num_validation=20, epochs=4)
    rows = []
    data = load("mnist", sample=True)
    run(recipe, 0, dataset=data, progress=False, on_epoch=lambda state: rows.append(state["rows"][-1]["loss_floor"]))
    assert min(rows[:3]) > 0 and rows[3] == 0  # the floor is the entropy of mixed labels: none is left


def test_the_soft_target_is_the_two_losses_for_cross_entropy_and_not_for_the_focal_loss():
    logits = torch.randn(9, 5, generator=generator(), dtype=torch.float64).requires_grad_()
    y = torch.randint(5, (9,), generator=generator(1))
    mixture = draw_mixture(9, 1.0, per="sample", generator=generator(2))

    def gradient(loss):
        return torch.autograd.grad(loss(logits, y, mixture), logits)[0]

    torch.testing.assert_close(gradient(soft_cross_entropy), gradient(mixup_cross_entropy), rtol=0, atol=1e-8)
    assert (gradient(focal_soft) - gradient(focal_two)).abs().max() > 1e-3
    whole = Mixture.identity(9)
    torch.testing.assert_close(focal_soft(logits, y, whole), focal_two(logits, y, whole), rtol=0, atol=1e-8)


def test_the_focal_loss_is_the_formula():
    logits, y = torch.randn(7, 4, generator=generator()), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    p = logits.softmax(1)[torch.arange(7), y]
    torch.testing.assert_close(focal_loss(logits, y), -((1 - p) ** GAMMA) * p.log())
    torch.testing.assert_close(focal_loss(logits, y), focal_loss(logits, F.one_hot(y, 4).float()))


@pytest.mark.parametrize("task", TASKS)
def test_the_variants_run_and_differ(task):
    data = load(task, sample=True)
    rows = {}
    for variant in VARIANTS:
        recipe = replace(find_recipe(f"questions-{task}-{variant}"), num_train=60, num_validation=20)
        rows[variant] = run(recipe, 0, dataset=data, epochs=5, evaluate_every=5, progress=False)
    assert all(math.isfinite(row["nll"]) and row["data"] == "sample" for row in rows.values())
    nll = {variant: row["nll"] for variant, row in rows.items()}
    assert nll["soft"] == pytest.approx(nll["per_batch"], abs=1e-4)
    assert nll["off_tenth"] == nll["per_batch"]  # the last of five epochs starts at t = 0.8
    assert len({nll[variant] for variant in VARIANTS if variant not in ("soft", "off_tenth")}) == len(VARIANTS) - 2


def test_fit_takes_the_loss_it_is_given(monkeypatch):
    calls = []

    def loss(logits, y, mixture):
        calls.append(len(y))
        return mixup_cross_entropy(logits, y, mixture)

    recipe = replace(find_recipe("questions-mnist-per_batch"), num_train=60, num_validation=20)
    data = load("mnist", sample=True)
    given = run(recipe, 0, dataset=data, epochs=1, progress=False, loss_fn=loss)
    assert sum(calls) == 60
    assert given["nll"] == run(recipe, 0, dataset=data, epochs=1, progress=False)["nll"]
    assert isinstance(METHODS[recipe.method](recipe, None)["mixup"], ImageMixup) and recipes.METHODS is METHODS
