"""Recipes: wrong labels as many and as wrong as said, tasks that follow from the seed, rows that the ledger takes."""

import copy
import math
from dataclasses import FrozenInstanceError, replace
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixup_modalities.lab import ledger, recipes
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.models import ConvNet
from mixup_modalities.lab.recipes import RECIPES, Recipe, RecipeError, corrupt_labels, draw_task, find_recipe, run
from mixup_modalities.lab.text_models import HubUnavailable
from mixup_modalities.lab.training import evaluate


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return load("mnist", sample=True)


@given(st.integers(0, 200), st.floats(0, 1), st.integers(2, 12), st.integers(0, 1000))
def test_exactly_that_share_is_wrong(n, fraction, classes, seed):
    y = torch.randint(classes, (n,), generator=generator(seed))
    before = y.clone()
    noisy = corrupt_labels(y, fraction, classes, generator(seed + 1))
    assert (noisy != y).sum() == round(fraction * n)
    assert torch.equal(y, before)
    assert noisy.dtype == torch.int64 and (n == 0 or 0 <= noisy.min() <= noisy.max() < classes)


def test_noise_is_uniform_over_rows_and_over_wrong_classes():
    y = torch.arange(5).repeat(2000)
    noisy = corrupt_labels(y, 0.5, 5, generator())
    counts = torch.zeros(5, 5)
    counts.index_put_((y, noisy), torch.ones(len(y)), accumulate=True)
    assert counts.diagonal().sum() == 5000
    for observed, expected in ((counts.diagonal(), 1000), (counts[~torch.eye(5, dtype=torch.bool)], 250)):
        # Chi-squared per degree of freedom: near 1 where counts are as unequal as chance makes them.
        assert ((observed - expected) ** 2 / expected).sum() / (len(observed) - 1) < 2
    assert not torch.equal(noisy, corrupt_labels(y, 0.5, 5, generator(1)))
    assert torch.equal(noisy, corrupt_labels(y, 0.5, 5, generator()))


@pytest.mark.parametrize(
    ("y", "fraction", "classes", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), 40, 10, r"fraction must be in \[0, 1\], got 40"),
        (torch.zeros(3, dtype=torch.int64), math.nan, 10, "fraction must be in"),
        (torch.zeros(3, dtype=torch.int64), 0.4, 1, "num_classes must be at least 2"),
        (torch.tensor([0, 3]), 0.4, 3, "class indices"),
        (torch.tensor([-1, 0]), 0.4, 3, "class indices"),
        (torch.zeros(3), 0.4, 3, "class indices"),
        (torch.eye(3, dtype=torch.int64), 0.4, 3, "class indices"),
    ],
)
def test_labels_that_cannot_be_corrupted(y, fraction, classes, message):
    with pytest.raises(ValueError, match=message):
        corrupt_labels(y, fraction, classes, generator())


def test_a_task_follows_from_the_seed(digits):
    first, again, other = (draw_task(digits, s, num_train=100, num_validation=50, label_noise=0.4) for s in (0, 0, 1))
    assert (len(first.train), len(first.validation)) == (100, 50)
    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.train.y, again.train.y)
    assert not torch.equal(first.train.x, other.train.x)
    assert first.test is digits.test and first.card is digits.card


def test_noise_does_not_change_which_examples_are_drawn(digits):
    clean, noisy = (draw_task(digits, 3, num_train=100, num_validation=50, label_noise=p) for p in (0, 0.4))
    assert torch.equal(clean.train.x, noisy.train.x)
    assert torch.equal(clean.train.y, clean.train.extra["true_y"])
    for split, n in ((noisy.train, 100), (noisy.validation, 50)):
        assert (split.y != split.extra["true_y"]).sum() == round(0.4 * n)
    for x, y in zip(noisy.train.x[:20], noisy.train.extra["true_y"][:20]):
        row = (digits.train.x == x).flatten(1).all(1).nonzero()[0]
        assert digits.train.y[row] == y


def test_a_whole_split_stays_in_order_and_one_without_validation_stays_so(digits):
    whole = draw_task(digits, 0)
    assert torch.equal(whole.train.x, digits.train.x)
    assert len(draw_task(digits, 0, num_train=10**6).train) == len(digits.train)
    assert draw_task(replace(digits, validation=None), 0, num_train=10).validation is None


def test_every_recipe_is_sound():
    for name, recipe in RECIPES.items():
        assert recipe.name == name and recipe.ledger and recipe.model in recipes.MODELS
        assert recipe.method in recipes.METHODS
        assert recipe.alpha == 0 or recipe.method != "erm"
    assert {f"mnist-noise-{p}-{a}" for p in (20, 40, 80) for a in (0, 0.2, 1, 4, 8)} <= set(RECIPES)
    assert {f"mnist-500-{a}" for a in (0, 0.2, 1, 4, 8)} | {"mnist-full-erm", "mnist-full-mixup"} <= set(RECIPES)
    with pytest.raises(FrozenInstanceError):
        RECIPES["mnist-full-erm"].epochs = 1


def test_an_unknown_recipe_offers_the_nearest():
    with pytest.raises(RecipeError, match=r"no recipe named 'mnist-noise-40-16': did you mean mnist-noise-40-1"):
        find_recipe("mnist-noise-40-16")
    with pytest.raises(RecipeError, match="there are mnist-500-0, "):
        find_recipe("xyzzy")


@pytest.mark.parametrize("method", ["erm", "mixup", "cutmix"])
def test_one_epoch_of_each_method_makes_a_row(digits, method, tmp_path):
    recipe = Recipe(
        "toy", "toy", "mnist", "conv-8", method, 0 if method == "erm" else 1.0, num_train=60, num_validation=20
    )
    row = run(recipe, 0, dataset=digits, epochs=2, device="cpu", progress=False)
    assert (row["recipe"], row["seed"], row["epochs"], row["num_train"], row["num_test"]) == ("toy", 0, 2, 60, 500)
    assert (row["dataset"], row["dataset_sha256"], row["data"]) == ("mnist", digits.card.sha256, "sample")
    assert (row["loss_floor"] > 0) == (method != "erm")
    ledger.append(row | {"commit": "0" * 40}, tmp_path / "toy.csv")
    assert len(ledger.read(tmp_path / "toy.csv")) == 1


@cache
def few(dataset):
    """A little of a data set's offline sample."""
    sample = load(dataset, sample=True)
    rows = {"train": 240, "validation": 60, "test": 20}
    return replace(sample, **{split: getattr(sample, split).take(slice(n)) for split, n in rows.items()})


@pytest.mark.parametrize("name", RECIPES)
def test_one_epoch_of_every_recipe_makes_a_row(name, monkeypatch):
    """All but the sizes is the recipe's own. One that needs a hub says so where there is none."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = replace(RECIPES[name], num_train=40, num_validation=20)
    try:
        row = run(recipe, 0, dataset=few(recipe.dataset), epochs=1, device="cpu", progress=False)
    except HubUnavailable as error:
        assert "minilm" in name and "is no folder, not in the local cache" in str(error)
        return
    assert (row["recipe"], row["epochs"], row["num_test"], row["data"]) == (name, 1, 20, "sample")
    assert 0 <= row["accuracy"] <= 1 and math.isfinite(row["nll"])


def test_a_run_repeats_and_early_stopping_takes_the_best_epoch(digits):
    recipe = Recipe("toy", "toy", "mnist", "conv-8", num_train=100, num_validation=50, label_noise=0.4, epochs=6)
    seen = []
    first = run(recipe, 5, dataset=digits, progress=False, on_epoch=lambda state: seen.append(copy.deepcopy(state)))
    again = run(recipe, 5, dataset=digits, progress=False)
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}
    scores = [state["rows"][-1]["val_accuracy"] for state in seen]
    best = scores.index(max(scores))
    assert first["best_epoch"] == best + 1
    model = ConvNet(width=8)
    for epoch, name in ((best, "best_accuracy"), (-1, "accuracy")):
        model.load_state_dict(seen[epoch]["model"])
        assert evaluate(model, digits.test).accuracy == first[name]


def test_mixup_and_erm_of_one_seed_share_all_but_the_mixing(digits):
    recipe = Recipe("toy", "toy", "mnist", "conv-8", num_train=60, num_validation=20, epochs=1)
    starts = []
    for method, alpha in (("erm", 0.0), ("mixup", 1.0)):
        made = []
        build = recipes.MODELS["conv-8"]

        def remember(dataset, build=build, made=made):
            model, dataset = build(dataset)
            made.append((model.layers[0].weight.detach().clone(), dataset.train))
            return model, dataset

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(recipes.MODELS, "conv-8", remember)
            run(replace(recipe, method=method, alpha=alpha), 0, dataset=digits, progress=False)
        starts += made
    (weights, train), (other_weights, other_train) = starts
    assert torch.equal(weights, other_weights) and torch.equal(train.x, other_train.x)
