"""The text entries of the tables in `recipes`: models, methods, and the settings of each experiment.

Three networks, four sizes of the training set, four methods: no mixup, or mixup at word, hidden or sentence level with
alpha = 1, the default of Guo et al. (2019). The tokenizer is trained on the texts drawn for training, no others.
"""

import os
from collections.abc import Callable, Iterator
from math import nan
from typing import Any

from torch import nn

from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.splits import Dataset
from mixup_modalities.lab.text_data import tokenize, train_tokenizer
from mixup_modalities.lab.text_models import (
    BiLSTM,
    TextCNN,
    TransformerClassifier,
    load_pretrained,
    mixed_at,
    small_transformer,
    weights_checksum,
)
from mixup_modalities.text import EmbeddingMixup

LEVELS = ("word", "hidden", "sentence")
VOCABULARY, MAX_LENGTH = 4000, 64
# Rows of the training set, passes over them, batch size. A larger set gets fewer passes and more steps.
SIZES = {"100": (100, 40, 50), "500": (500, 20, 50), "2000": (2000, 10, 100), "all": (None, 5, 100)}
# Peak learning rate of each network. Of 0.001, 0.002 and 0.004, on the validation set of TREC, without mixup, with
# 2,000 questions and two seeds, the conv net and the LSTM did best with the last; the transformer did not care.
RATES = {"cnn": 0.004, "lstm": 0.004, "transformer": 0.002}

# Minutes of one run on one CPU core: the fastest in the ledger, on a machine with other work. The rest has not been
# measured yet.
MINUTES = {
    "trec": {
        "cnn": {"100": 0.03, "500": 0.06, "2000": 0.1, "all": 0.3},
        "lstm": {"100": 0.05, "500": 0.1, "2000": 0.2, "all": 0.25},
        "transformer": {"100": 0.06, "500": 0.14, "2000": 0.8, "all": 0.6},
    },
    "ag_news": {
        "cnn": {"100": 0.1, "500": 0.1, "2000": 0.2, "all": 1.0},
        "lstm": {"100": 0.15, "500": 0.8, "2000": 0.8, "all": 3.9},
        "transformer": {"100": 0.14, "500": 0.3, "2000": 0.5, "all": 3.1},
    },
}


def from_scratch(network: Callable[[int, int], nn.Module]) -> Callable[[Dataset], tuple[nn.Module, Dataset]]:
    """Return an entry of `recipes.MODELS` that trains a tokenizer, then makes a network of its size.

    Args:
        network: `network(vocab_size, num_classes)` returns the untrained model.
    """

    def build(dataset: Dataset) -> tuple[nn.Module, Dataset]:
        tokenizer = train_tokenizer(dataset.train.x, VOCABULARY)
        model = network(tokenizer.get_vocab_size(), len(dataset.classes))
        return model, tokenize(dataset, tokenizer, MAX_LENGTH)

    return build


def minilm(dataset: Dataset) -> tuple[nn.Module, Dataset]:
    """Fine-tune all-MiniLM-L6-v2: from the folder that `MIXUP_MINILM` names, else from the local cache or the hub."""
    name = os.environ.get("MIXUP_MINILM", "sentence-transformers/all-MiniLM-L6-v2")
    encoder, tokenizer = load_pretrained(name)
    layers, width = encoder.config.num_hidden_layers, encoder.config.hidden_size
    if (layers, width) != (6, 384):
        raise LabError(f"{name} is not all-MiniLM-L6-v2: expected 6 layers of width 384, got {layers} of width {width}")
    model = TransformerClassifier(encoder, len(dataset.classes))
    model.provenance = {"weights": weights_checksum(name)}
    return model, tokenize(dataset, tokenizer, MAX_LENGTH, add_special_tokens=True)


TEXT_MODELS: dict[str, Callable[[Dataset], tuple[nn.Module, Dataset]]] = {
    "text-cnn": from_scratch(TextCNN),
    "text-lstm": from_scratch(BiLSTM),
    "text-transformer": from_scratch(small_transformer),
    "text-minilm": minilm,
}


def _mixes_at(level: str) -> Callable:
    return lambda recipe, model: {"mixup": EmbeddingMixup(recipe.alpha), "forward": mixed_at(level)}


TEXT_METHODS: dict[str, Callable[[Any, nn.Module], dict[str, Any]]] = {level: _mixes_at(level) for level in LEVELS}


def text_settings() -> Iterator[dict[str, Any]]:
    """Yield the fields of each text `Recipe`: "trec-100-cnn-erm", "trec-100-cnn-word", ..."""
    shared = {"ledger": "text", "num_validation": 454, "optimizer": "adamw", "weight_decay": 0.01, "warmup": 0.1}
    for dataset in ("trec", "ag_news"):
        for size, (rows, epochs, batch_size) in SIZES.items():
            for network, lr in RATES.items():
                for method in ("erm", *LEVELS):
                    yield shared | {
                        "name": f"{dataset}-{size}-{network}-{method}",
                        "dataset": dataset,
                        "model": f"text-{network}",
                        "method": method,
                        "alpha": 0.0 if method == "erm" else 1.0,
                        "num_train": rows,
                        "epochs": epochs,
                        "evaluate_every": epochs,
                        "batch_size": batch_size,
                        "lr": lr,
                        "minutes_cpu": MINUTES[dataset][network].get(size, nan),
                    }
    for method in ("erm", *LEVELS):
        yield shared | {
            "name": f"trec-100-minilm-{method}",
            "dataset": "trec",
            "model": "text-minilm",
            "method": method,
            "alpha": 0.0 if method == "erm" else 1.0,
            "num_train": 100,
            "epochs": 8,
            "evaluate_every": 8,
            "batch_size": 20,
            "lr": 3e-4,
            "minutes_cpu": 0.6,
        }
