"""Text experiments by name, from strings to a row of the ledger."""

import math
from dataclasses import replace

import pytest

from mixup_modalities.lab import ledger
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.recipes import METHODS, MODELS, RECIPES, find_recipe, run
from mixup_modalities.lab.text_data import train_tokenizer
from mixup_modalities.lab.text_recipes import LEVELS, RATES, SIZES


def test_every_cell_of_the_table_has_a_recipe():
    for dataset in ("trec", "ag_news"):
        for size, (rows, *_) in SIZES.items():
            for network in RATES:
                for method in ("erm", *LEVELS):
                    recipe = find_recipe(f"{dataset}-{size}-{network}-{method}")
                    assert (recipe.dataset, recipe.num_train, recipe.method) == (dataset, rows, method)
                    assert recipe.model in MODELS and recipe.method in METHODS
                    assert (recipe.alpha == 0) == (method == "erm")


def test_the_minutes_that_a_recipe_announces_are_those_of_the_ledger():
    rows = ledger.results("text")
    fastest = rows.groupby(rows["recipe"].str.rpartition("-")[0])["seconds"].min() / 60
    assert len(fastest) > 12
    for cell, minutes in fastest.items():
        assert find_recipe(f"{cell}-erm").minutes_cpu == pytest.approx(minutes, rel=0.3), cell


def test_another_encoder_is_not_taken_for_minilm(monkeypatch, tmp_path):
    import transformers

    tokenizer = train_tokenizer(["what is it"] * 3, 40)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(tmp_path)
    monkeypatch.setenv("MIXUP_MINILM", str(tmp_path))
    with pytest.raises(LabError, match="expected 6 layers of width 384"):
        MODELS["text-minilm"](load("trec", sample=True))


def test_methods_differ_in_nothing_but_the_mixing():
    for name, recipe in RECIPES.items():
        if recipe.ledger == "text" and recipe.method != "erm":
            erm = RECIPES[name.rpartition("-")[0] + "-erm"]
            assert replace(recipe, name=erm.name, method="erm", alpha=0.0) == erm


@pytest.mark.parametrize("network", RATES)
def test_a_recipe_runs_on_the_offline_questions(network):
    data = load("trec", sample=True)
    rows = []
    for method in ("erm", *LEVELS):
        recipe = replace(find_recipe(f"trec-100-{network}-{method}"), epochs=2, evaluate_every=2)
        rows.append(run(recipe, 1, dataset=data, progress=False))
    for row in rows:
        assert row["num_train"] == 100 and row["num_test"] == len(data.test) and row["data"] == "sample"
        assert 0 < row["accuracy"] < 1 and math.isfinite(row["nll"])
    assert rows[0]["loss_floor"] == 0
    assert len({round(row["loss"], 6) for row in rows}) == 4  # four methods, four training runs
    assert len({row["loss_floor"] for row in rows[1:]}) == 1  # with the same mixtures of the same rows
