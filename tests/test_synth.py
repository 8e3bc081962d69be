import pytest
import torch

from mixup_modalities.lab import synth
from mixup_modalities.lab.synth import CHUNK, SAMPLE_RATE, WORDS, draw_voices, speak, spoken_words


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def quiet_voices(count, **fixed):
    """Speakers without background noise, each property at its usual value unless fixed."""
    voices = draw_voices(count, generator())
    usual = {"tract": 1.0, "pitch": 110.0, "fall": 0.0, "tempo": 1.0, "breathiness": 0.0, "noise": -120.0}
    usual |= {"accent": 1.0, "sibilance": 1.0, "bandwidth": 1.0, "low_cut": 20.0, "high_cut": 12000.0, "level": -20.0}
    usual |= {"noise_colour": 0.0, "tilt": 500.0}
    return {name: torch.full_like(value, (usual | fixed)[name]) for name, value in voices.items()}


def say(word, count=16, **fixed):
    labels = torch.full((count,), list(WORDS).index(word))
    return speak(labels, quiet_voices(count, **fixed), generator(1)).float() / 32768


def spectrum(x):
    """Mean power (513,) at multiples of 15.625 Hz."""
    return torch.stft(x, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs().square().mean((0, 2))


def test_shapes_types_and_balance():
    clips = spoken_words(3 * CHUNK + 5, 7, generator())
    assert clips.waveforms.shape == (3 * CHUNK + 5, 16_000) and clips.waveforms.dtype == torch.int16
    assert clips.labels.dtype == clips.speakers.dtype == torch.int64
    counts = clips.labels.bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert set(clips.speakers.tolist()) <= set(range(7)) and len(set(clips.speakers.tolist())) > 3
    assert (clips.waveforms.float().square().mean(1).sqrt() > 30).all(), "a clip is silent"


def test_the_generator_is_the_only_randomness():
    state = torch.get_rng_state()
    first, again, other = (spoken_words(20, 4, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first.waveforms, other.waveforms)


def test_pitch_is_the_speakers():
    for pitch in (100.0, 200.0):
        power = spectrum(say("on", pitch=pitch))
        correlation = torch.fft.irfft(power)  # the autocorrelation peaks at the period
        low, high = int(SAMPLE_RATE / 280), int(SAMPLE_RATE / 70)
        period = low + correlation[low:high].argmax().item()
        assert abs(SAMPLE_RATE / period / pitch - 1) < 0.12


def test_a_longer_vocal_tract_lowers_the_formants():
    def centroid(tract):
        power = spectrum(say("yes", tract=tract, pitch=150.0))[: int(3500 / 15.625)]
        return (power * torch.arange(len(power))).sum() / power.sum()

    assert centroid(1.0) < centroid(1.3)


def test_vowels_have_their_formants():
    # /ɑ/ in "on": F1 750, F2 1140 Hz, then a valley. /ɛ/ in "left": F1 570, a valley, F2 1780.
    def band(power, low, high):
        return power[int(low / 15.625) : int(high / 15.625)].mean()

    on, left = spectrum(say("on")), spectrum(say("left"))
    assert band(on, 650, 1250) > 10 * band(on, 1600, 2200)
    assert band(left, 1600, 1950) > 2 * band(left, 1050, 1350)
    assert band(left, 1600, 1950) / band(left, 650, 900) > 5 * band(on, 1600, 1950) / band(on, 650, 900)


def test_fricatives_hiss_and_vowels_do_not():
    def high_share(word):
        power = spectrum(say(word))
        return power[256:].sum() / power.sum()

    assert high_share("yes") > 5 * high_share("no")
    assert high_share("stop") > 5 * high_share("go")


def test_a_stop_has_a_closure_before_its_release():
    # "up": a vowel, a silent closure, and where it is released a burst.
    x = say("up", count=64)
    level = 10 * torch.log10(x.unfold(1, 160, 80).square().mean(2) + 1e-9)
    gaps = 0
    for row in level:
        loud = (row > row.max() - 45).nonzero().flatten()
        gaps += int(((loud[1:] - loud[:-1]) > 6).any())  # at least 30 ms of nothing between two sounds
    assert 25 <= gaps <= 60, f"{gaps} of 64 clips have a released closure; about 70 % should"


def test_speakers_differ_and_stay_themselves():
    # The same speaker's accent and pitch are shared by all clips: nothing of a voice is drawn again in `speak`.
    voices = draw_voices(50, generator())
    assert all(len(value) == 50 for value in voices.values())
    assert voices["pitch"].std() > 30 and voices["tract"].std() > 0.08
    tall = voices["tract"] > 1.2
    assert voices["pitch"][tall].mean() > voices["pitch"][~tall].mean()


def test_held_out_speakers_are_understood_well_above_chance_but_not_always():
    train, test = spoken_words(400, 40, generator(0)), spoken_words(200, 20, generator(1))

    def features(clips):
        x = clips.waveforms.float() / 32768
        start = x.square().cumsum(1).div(x.square().sum(1, keepdim=True)).gt(0.02).float().argmax(1).clamp(max=8000)
        x = x.gather(1, start[:, None] + torch.arange(8000))  # half a second from where the energy begins
        s = torch.stft(x, 512, 320, window=torch.hann_window(512), return_complex=True).abs()[:, :256]
        s = torch.nn.functional.avg_pool2d(s.add(1e-3).log(), (8, 1)).flatten(1)
        return (s - s.mean(1, keepdim=True)) / s.std(1, keepdim=True)

    a, b = features(train), features(test)
    near = torch.cdist(b, a).topk(5, largest=False).indices
    votes = torch.nn.functional.one_hot(train.labels[near], 10).sum(1)
    accuracy = (votes.argmax(1) == test.labels).float().mean()
    assert 0.3 < accuracy < 0.99  # chance is 0.1


@pytest.mark.parametrize(("clips", "speakers", "name"), [(0, 3, "num_clips"), (5, 0, "num_speakers")])
def test_bad_counts_are_refused(clips, speakers, name):
    with pytest.raises(ValueError, match=name):
        spoken_words(clips, speakers, generator())


def test_every_phone_is_used_and_every_word_known():
    assert {phone for word in WORDS.values() for phone, _ in word} == set(synth.PHONES)
    assert list(WORDS) == ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
