"""CIFAR-10 experiments by name: the authors' settings, one epoch of each family on the drawn pictures."""

import math
from dataclasses import replace

import pytest

from mixup_modalities.lab import ledger, recipes
from mixup_modalities.lab.cifar_recipes import ALPHAS, NOISE
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.recipes import RECIPES, find_recipe, run
from mixup_modalities.lab.robustness import CORRUPTIONS
from mixup_modalities.lab.schedules import learning_rate


@pytest.fixture(scope="module")
def pictures():
    return load("cifar10", sample=True)


def test_every_experiment_has_a_recipe_and_the_published_ones_their_figure():
    names = {f"cifar10-{size}-{method}" for size in ("preact18", "small") for method in (*ALPHAS, "stem7-erm")}
    names |= {f"cifar10-{size}noise-{p}-{name}" for size in ("", "small-") for p in (20, 50, 80) for name in NOISE}
    assert names == {name for name, recipe in RECIPES.items() if recipe.ledger == "cifar10"}
    figures = ledger.published()
    published = {name for name in figures["recipe"] if name.startswith("cifar10")}
    assert published and published <= {name for name in names if "small" not in name}


def test_the_full_ones_are_trained_as_the_authors_do():
    recipe = find_recipe("cifar10-preact18-mixup")
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.alpha) == (200, 128, 0.1, 1e-4, 1)
    assert recipe.optimizer == "momentum" and recipe.augment == "flip-crop" and recipe.train_on_validation
    rates = [recipe.lr * learning_rate(recipe.schedule, epoch / 200, recipe.warmup) for epoch in (0, 99, 100, 149, 150)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_methods_differ_in_nothing_but_the_mixing():
    for size in ("preact18", "small"):
        for method in ALPHAS:
            other = find_recipe(f"cifar10-{size}-{method}")
            erm = find_recipe(f"cifar10-{size}-erm")
            assert replace(other, name=erm.name, method="erm", alpha=0.0) == erm
        stem = find_recipe(f"cifar10-{size}-stem7-erm")
        assert replace(stem, name=erm.name, model=erm.model) == erm


def test_of_labels_drawn_anew_nine_in_ten_are_wrong():
    assert [find_recipe(f"cifar10-noise-{p}-erm").label_noise for p in (20, 50, 80)] == pytest.approx(
        [0.18, 0.45, 0.72]
    )


@pytest.mark.parametrize(
    "name", ["small-erm", "small-mixup", "small-cutmix", "small-manifold", "small-stem7-erm", "small-noise-80-mixup-8"]
)
def test_one_epoch_of_each_small_recipe_makes_a_row(pictures, name, tmp_path):
    recipe = replace(find_recipe(f"cifar10-{name}"), num_train=100, num_validation=20, num_further=20, evaluate_every=1)
    data = replace(pictures, test=pictures.test.take(slice(40)))
    row = run(recipe, 0, dataset=data, epochs=1, device="cpu", progress=False)
    assert (row["loss_floor"] > 0) == (recipe.alpha > 0)
    assert (row["num_train"], row["num_test"], row["lossy"]) == (100, 40, False)
    further = {f"accuracy_{name}" for name in CORRUPTIONS} | {"accuracy_corrupted", "accuracy_fgsm_1"}
    assert further <= set(row) and all(math.isfinite(row[key]) for key in further)
    ledger.append(row | {"commit": "0" * 40}, tmp_path / "toy.csv")
    assert len(ledger.read(tmp_path / "toy.csv")) == 1


def test_a_full_recipe_trains_on_validation_too_and_runs_an_epoch(pictures, monkeypatch):
    """The 18 layers on a handful of pictures: two steps, the rest of the path as in 200 epochs."""
    few = replace(
        pictures, train=pictures.train.take(slice(12)), validation=pictures.validation.take(slice(4)),
        test=pictures.test.take(slice(6)),
    )  # fmt: skip
    row = run(find_recipe("cifar10-preact18-manifold"), 0, dataset=few, epochs=1, device="cpu", progress=False)
    assert row["num_train"] == 16 and math.isfinite(row["nll"]) and "best_accuracy" not in row
    assert "val_accuracy" not in row


def test_augmentation_is_seen_in_training_only(pictures, monkeypatch):
    calls = []
    monkeypatch.setitem(recipes.AUGMENTS, "flip-crop", lambda x, generator: calls.append(len(x)) or x)
    data = replace(pictures, test=pictures.test.take(slice(10)))
    recipe = replace(find_recipe("cifar10-small-erm"), num_train=100, num_validation=10, num_further=5)
    run(recipe, 0, dataset=data, epochs=1, device="cpu", progress=False)
    assert calls == [50, 50]
    run(replace(recipe, augment=None), 0, dataset=data, epochs=1, device="cpu", progress=False)
    assert len(calls) == 2
