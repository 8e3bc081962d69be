import pytest
import torch

from mixup_modalities import Mixture, SpectrogramMixup
from mixup_modalities.audio import loudness
from mixup_modalities.lab import recipes
from mixup_modalities.lab.audio_models import SoundNet, SpecAugment, SpecMix, add_noise, front, noise_accuracies
from mixup_modalities.lab.audio_recipes import AUDIO_METHODS, audio_settings
from mixup_modalities.lab.runtime import seeded
from mixup_modalities.lab.splits import DataCard, Dataset, Split
from mixup_modalities.lab.synth import WORDS, spoken_words
from mixup_modalities.lab.training import evaluate, fit


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def words():
    """Sixty clips to train and twenty to test, ten words."""
    parts = [spoken_words(n, 8, generator(n)) for n in (60, 20)]
    train, test = (Split(part.waveforms, part.labels) for part in parts)
    card = DataCard(title="words", source="", licence="")
    return Dataset("speech_commands", train, test, test, tuple(WORDS), card, is_sample=True)


def make(batch_norm=False, **settings):
    with seeded(0):
        return SoundNet(10, batch_norm=batch_norm, **settings)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_three_methods_agree(words, batch_norm):
    model, x = make(batch_norm).eval(), words.train.x[:5]
    waveforms = model.embed(x)
    assert waveforms.dtype == torch.float32 and waveforms.abs().max() <= 1
    spec = model.front(waveforms)
    assert spec.shape == (5, 40, 51)
    assert torch.equal(model(x), model.classify(spec))
    assert model(x).shape == (5, 10)


def test_level_does_not_matter():
    model, x = make().eval(), 0.1 * torch.randn(2, 16_000, generator=generator())
    torch.testing.assert_close(model(x), model(3 * x), rtol=1e-3, atol=1e-3)


def test_other_lengths_and_front_ends():
    model = make(widths=(4, 8), seconds=0.5)
    assert model(torch.zeros(2, 8_000)).shape == (2, 10)


@pytest.mark.parametrize("method", sorted(AUDIO_METHODS))
def test_every_method_trains(words, method):
    recipe = next(recipes.RECIPES[s["name"]] for s in audio_settings() if s["method"] == method)
    row = recipes.run(recipe, 0, dataset=words, epochs=1, device="cpu", progress=False)
    assert 0 <= row["accuracy"] <= 1 and row["data"] == "sample"
    assert {"accuracy_20db", "accuracy_10db", "accuracy_0db"} <= set(row)


def test_a_small_net_learns(words):
    model = make(batch_norm=True)
    mixup = SpectrogramMixup(model.front, 0.2)
    fit(model, words.train, mixup=mixup, epochs=12, batch_size=20, lr=3e-3, optimizer="adamw", device="cpu",
        evaluate_every=0, progress=False)  # fmt: skip
    assert evaluate(model, words.train).accuracy > 0.6


class TestSpecAugment:
    def test_masks_are_bounded_and_nothing_is_mixed(self, words):
        augment, x = SpecAugment(front(), mels=8, frames=10), words.train.x[:30] / 32768
        plain = augment.log_mel(x)
        spec, mixture = augment(x, generator=generator())
        assert torch.equal(mixture.matrix(), torch.eye(30))
        changed = (spec - plain).abs() > 1e-3
        mels, frames = changed.all(2), changed.all(1)  # whole rows and columns
        assert (changed == (mels[:, :, None] | frames[:, None])).float().mean() > 0.995
        assert mels.sum(1).max() < 8 and frames.sum(1).max() < 10
        assert mels.any() and frames.any() and len(set(mels.sum(1).tolist())) > 2

    def test_randomness_and_evaluation(self, words):
        augment, x, state = SpecAugment(front()), words.train.x[:4] / 32768, torch.get_rng_state()
        first, again, other = (augment(x, generator=generator(seed))[0] for seed in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(augment.eval()(x, generator=generator())[0], augment.log_mel(x))


class TestSpecMix:
    def test_labels_weigh_what_is_kept(self, words):
        mix, x = SpecMix(front()), words.train.x[:12] / 32768
        plain = mix.log_mel(x)
        shares = []
        for seed in range(30):
            spec, mixture = mix(x, generator=generator(seed))
            own, theirs = spec == plain, spec == plain[mixture.partner]
            assert (own | theirs).all(), "a cell comes from a third clip"
            moved = mixture.partner != torch.arange(12)
            from_partner = (~own)[moved].any(0)  # the same cells in every row
            assert mixture.lam.item() == pytest.approx(1 - from_partner.float().mean().item(), abs=0.02)
            shares.append(mixture.lam.item())
        assert max(shares) == 1 and 0.2 < min(shares) < 0.6

    def test_evaluation(self, words):
        mix = SpecMix(front()).eval()
        spec, mixture = mix(words.train.x[:4] / 32768, generator=generator())
        assert torch.equal(spec, mix.log_mel(words.train.x[:4] / 32768))
        assert isinstance(mixture, Mixture) and torch.equal(mixture.matrix(), torch.eye(4))


class TestNoise:
    @pytest.mark.parametrize("snr", [20, 0, -10])
    def test_the_ratio_is_what_it_says(self, words, snr):
        x = words.train.x[:10]
        noise = add_noise(x, snr, generator()) - x / 32768
        ratio = 20 * torch.log10(loudness(x / 32768) / noise.square().mean(1).sqrt())
        assert torch.allclose(ratio, torch.tensor(float(snr)), atol=0.2)

    def test_the_same_noise_for_every_model(self, words):
        model = make().eval()
        first, again = (noise_accuracies(model, words.test.x, words.test.y, (60, 0)) for _ in range(2))
        assert first == again and set(first) == {"accuracy_60db", "accuracy_0db"}
        assert first["accuracy_60db"] == pytest.approx(evaluate(model, words.test).accuracy, abs=0.11)
