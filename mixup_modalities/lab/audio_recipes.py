"""The audio entries of the tables in `recipes`: models, methods, further tests, and the settings of each experiment.

A small and a larger network on ten spoken words; no mixup, mixup in three domains, each also gain-aware; SpecAugment
and SpecMix beside them; a longer schedule; a sweep of alpha.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from mixup_modalities.audio import SpectrogramMixup
from mixup_modalities.lab.audio_models import SoundNet, SpecAugment, SpecMix, noise_accuracies
from mixup_modalities.lab.splits import Dataset, Split

DOMAINS = ("waveform", "power", "log")
ALPHA = 0.2  # the larger of the two that Zhang et al. (2018) use for Google Commands
SWEEP = (0.1, 0.4, 1.0)
LONG = 40  # epochs of the longer schedule: mixup is said to need more of them


def _sound_net(*widths: int, batch_norm: bool = False) -> Callable[[Dataset], tuple[nn.Module, Dataset]]:
    return lambda dataset: (SoundNet(len(dataset.classes), widths, batch_norm=batch_norm), dataset)


def _mixes_in(domain: str, gain_aware: bool) -> Callable[[Any, nn.Module], dict[str, Any]]:
    def method(recipe: Any, model: SoundNet) -> dict[str, Any]:
        return {"mixup": SpectrogramMixup(model.front, recipe.alpha, domain, gain_aware=gain_aware)}

    return method


AUDIO_MODELS: dict[str, Callable[[Dataset], tuple[nn.Module, Dataset]]] = {
    "sound-small": _sound_net(8, 16, 32, 32),
    "sound-large": _sound_net(16, 32, 64, 64, batch_norm=True),
}
AUDIO_METHODS: dict[str, Callable[[Any, nn.Module], dict[str, Any]]] = {
    **{domain: _mixes_in(domain, False) for domain in DOMAINS},
    **{f"{domain}-gain": _mixes_in(domain, True) for domain in DOMAINS},
    "specaugment": lambda recipe, model: {"mixup": SpecAugment(model.front)},
    "specmix": lambda recipe, model: {"mixup": SpecMix(model.front)},
}
AUDIO_TESTS: dict[str, Callable[[nn.Module, Split], dict[str, float]]] = {
    "speech_commands": lambda model, test: noise_accuracies(model, test.x, test.y),
}


def audio_settings() -> Iterator[dict[str, Any]]:
    """Yield the fields of each audio `Recipe`: "speech-small-erm", "speech-large-power-gain", ..."""
    shared = {
        "ledger": "speech_commands",
        "dataset": "speech_commands",
        "epochs": 12,
        "batch_size": 50,
        "lr": 3e-3,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "evaluate_every": 0,
    }
    for size, minutes in (("small", 0.25), ("large", 0.4)):
        network = {"model": f"sound-{size}", "minutes_cpu": minutes, **shared}
        gains = ("", "-gain") if size == "large" else ("",)
        rivals = ("specaugment", "specmix") if size == "large" else ()
        for method in ("erm", *(domain + gain for gain in gains for domain in DOMAINS), *rivals):
            alpha = ALPHA if method.startswith(DOMAINS) else 0.0
            yield network | {"name": f"speech-{size}-{method}", "method": method, "alpha": alpha}
    for method in ("erm", *DOMAINS):  # `network` is the large one now
        alpha = 0.0 if method == "erm" else ALPHA
        longer = {"name": f"speech-large-long-{method}", "epochs": LONG, "minutes_cpu": 0.4 * LONG / shared["epochs"]}
        yield network | longer | {"method": method, "alpha": alpha}
    for alpha in SWEEP:
        yield network | {"name": f"speech-large-power-{alpha:g}", "method": "power", "alpha": alpha}
