import copy
import pickle

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from mixup_modalities import audit, draw_mixture
from mixup_modalities.audio import SILENCE, LogMel, SpectrogramMixup, loudness, mel_filters, mixed_lengths
from mixup_modalities.lab.synth import spoken_words
from mixup_modalities.mixture import Mixture

DOMAINS = ("waveform", "power", "log")
SETTINGS = [
    {},
    {"n_mels": 64, "win_length": 400, "f_min": 20.0},
    {"n_fft": 1024, "hop_length": 256, "n_mels": 128, "f_max": 7600.0},
    {"n_fft": 511, "hop_length": 100, "n_mels": 23, "win_length": 301, "f_min": 50.0},  # odd: no bin at 8 kHz
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def speech():
    """Twelve spoken words, (12, 16000), of three loudnesses."""
    x = spoken_words(12, 6, generator()).waveforms.float() / 32768
    return x * torch.tensor([1.0, 0.3, 0.03]).repeat(4)[:, None]


def librosa_mel(front, x):
    names = {"n_fft": "n_fft", "hop_length": "hop_length", "win_length": "win_length", "n_mels": "n_mels"}
    settings = {name: getattr(front, ours) for name, ours in (names | {"fmin": "f_min", "fmax": "f_max"}).items()}
    settings |= {"htk": False, "norm": "slaney", "dtype": x.numpy().dtype}
    mel = librosa.feature.melspectrogram(y=x.numpy(), sr=front.sample_rate, **settings)
    return torch.from_numpy(mel)


class TestLogMel:
    @pytest.mark.parametrize("settings", SETTINGS)
    def test_equals_librosa(self, speech, settings):
        front = LogMel(**settings)
        ours, theirs = front.power(speech), librosa_mel(front, speech)
        assert ours.shape == theirs.shape == (12, front.n_mels, front.num_frames(16000))
        # Both round to float32. What lies 60 dB below a frame's peak is rounding noise of the transform in either.
        loud = theirs > 1e-6 * theirs.amax((1, 2), keepdim=True)
        error = (ours - theirs).abs() / theirs
        assert error[loud].max() < 1e-4
        assert error.flatten().quantile(0.995) < 1e-4
        expected = theirs.clamp(min=front.floor).log()
        assert ((front(speech) - expected).abs() / expected.abs().clamp(min=1)).max() < 1e-3

    @pytest.mark.parametrize("settings", SETTINGS)
    def test_equals_librosa_in_double_precision(self, speech, settings):
        front, x = LogMel(**settings), speech.double()
        theirs = librosa_mel(front, x).clamp(min=1e-8)
        assert front.power(x).dtype == torch.float64
        assert ((front.power(x).clamp(min=1e-8) - theirs).abs() / theirs).max() < 1e-9

    @pytest.mark.parametrize("settings", SETTINGS[:3])  # an odd n_fft has half the rate as its last bin there
    def test_equals_torchaudio(self, speech, settings):
        front = LogMel(**settings)
        theirs = torchaudio.transforms.MelSpectrogram(
            sample_rate=16_000, n_fft=front.n_fft, win_length=front.win_length, hop_length=front.hop_length,
            f_min=front.f_min, f_max=front.f_max, n_mels=front.n_mels, norm="slaney", mel_scale="slaney",
            pad_mode="constant",
        )(speech)  # fmt: skip
        loud = theirs > 1e-6 * theirs.amax((1, 2), keepdim=True)
        error = ((front.power(speech) - theirs).abs() / theirs)[loud]
        assert error.quantile(0.999) < 1e-4 and error.max() < 5e-4  # torchaudio makes its filters in float32

    @given(
        st.sampled_from([8000, 16000, 22050]),
        st.sampled_from([1023, 1024, 1200]),
        st.integers(8, 40),
        st.floats(0, 300),
        st.floats(2000, 4000),
    )
    def test_filters_equal_librosa(self, rate, n_fft, n_mels, low, high):
        theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=low, fmax=high, dtype=np.float64)
        ours = mel_filters(rate, n_fft, n_mels, low, high)
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-9, atol=1e-12)

    def test_a_tone_lands_in_its_filter(self):
        front = LogMel()
        tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
        loudest = front(tone).mean(2).argmax().item()
        frequencies = torch.linspace(0, 8000, 257)
        centre = (front.filters[loudest] * frequencies).sum() / front.filters[loudest].sum()
        assert abs(centre - 1000) < 60

    def test_padding_is_ignored(self, speech):
        """A clip in a padded batch gives the frames it gives alone, whatever is stored behind its end."""
        front, lengths = LogMel(), torch.tensor([9_000, 16_000, 12_345])
        padded = speech[:3].clone()
        padded[0, 9_000:], padded[2, 12_345:] = float("nan"), 7.0
        kept = padded.clone()
        spec = front(padded, lengths)
        assert torch.equal(padded.nan_to_num(9), kept.nan_to_num(9)), "the caller's batch was changed"
        for row, length in enumerate(lengths.tolist()):
            alone = front(speech[row : row + 1, :length])
            assert alone.shape[2] == front.num_frames(length)
            torch.testing.assert_close(spec[row, :, : alone.shape[2]], alone[0], rtol=1e-4, atol=1e-4)
        beyond = front.num_frames(9_000 + front.n_fft)
        assert (spec[0, :, beyond:] == torch.tensor(front.floor).log()).all()

    def test_silence_is_the_floor_and_has_a_gradient(self):
        x = torch.zeros(2, 4000, requires_grad=True)
        spec = LogMel(floor=1e-6)(x)
        assert torch.allclose(spec, torch.tensor(1e-6).log())
        spec.sum().backward()
        assert x.grad.isfinite().all()

    def test_half_precision_never_reaches_the_spectrum(self, speech, device):
        front, x = LogMel().to(device), speech.to(device)
        expected = front(x)
        with torch.autocast(device.type, torch.bfloat16):
            assert torch.equal(front(x), expected)
        half = front(x.bfloat16())
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, front(x.bfloat16().float()))

    def test_gradient(self):
        front = LogMel(n_fft=32, hop_length=16, n_mels=4).double()
        x = torch.randn(2, 64, dtype=torch.float64, generator=generator(), requires_grad=True)
        assert torch.autograd.gradcheck(front, (x,))

    def test_state_dict_is_empty_and_moves(self, device):
        front = LogMel().to(device)
        assert not front.state_dict() and front.filters.device.type == device.type

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_casting_a_model_leaves_the_tables(self, speech, dtype):
        front, expected = LogMel(), LogMel()(speech)
        model = torch.nn.Sequential(front, torch.nn.Linear(101, 2)).to(dtype)
        assert model[1].weight.dtype == dtype and front.window.dtype == front.filters.dtype == torch.float32
        assert not model[0].state_dict()
        for copied in (front, copy.deepcopy(front), pickle.loads(pickle.dumps(front))):
            assert torch.equal(copied(speech), expected)
        for table in front.buffers():  # as some trainers cast them, behind the module's back
            table.data = table.data.to(dtype)
        assert torch.equal(front(speech), expected)

    @pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")  # torch 2.9, even to switch autocast off
    def test_follows_its_input(self, speech, device):
        """A front end that nobody moved works where its input lies; fake tensors stand in for a GPU."""
        front, moved = LogMel(), LogMel().to(device)
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert front(torch.zeros(2, 1600, device="cuda")).device.type == "cuda"
        for dtype in (torch.float32,) if device.type == "mps" else (torch.float32, torch.float64):
            x = speech.to(device, dtype)
            assert torch.equal(front(x), moved(x))
            torch.testing.assert_close(moved(x).cpu(), front(x.cpu()), rtol=1e-4, atol=1e-3)

    def test_empty_filters_are_announced(self):
        with pytest.warns(UserWarning, match="filters"):
            LogMel(n_fft=256, n_mels=128)

    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"sample_rate": 0}, "sample_rate"),
            ({"hop_length": 0}, "hop_length"),
            ({"n_mels": 2.5}, "n_mels"),
            ({"win_length": 1024}, "win_length"),
            ({"f_max": 9000.0}, "f_max"),
            ({"f_min": 5000.0, "f_max": 4000.0}, "f_min"),
            ({"f_min": -1.0}, "f_min"),
            ({"floor": 0.0}, "floor"),
            *[
                ({name: bad}, name)
                for name in ("sample_rate", "n_fft", "hop_length")
                for bad in ("512", None, 511.5, True)
            ],
            *[({"n_fft": bad}, "n_fft") for bad in (float("nan"), float("inf"), torch.tensor(512))],
            *[({name: bad}, name) for name in ("f_min", "f_max", "floor") for bad in ("1", [1], True, float("nan"))],
            ({"f_min": None}, "f_min"),
            *[({"floor": bad}, "floor") for bad in (None, 1e-50, 1e-38, float("inf"), 1e39)],
        ],
    )
    def test_bad_settings(self, settings, name):
        with pytest.raises(ValueError, match=f"^(f_min and )?{name}.*: expected .*got"):
            LogMel(**settings)

    def test_settings_may_be_numbers_of_numpy_and_whole_floats(self, speech):
        front = LogMel(16_000.0, np.int32(512), np.int16(160), win_length=np.int64(512), f_max=np.float32(8000))
        assert torch.equal(front(speech), LogMel()(speech))
        assert LogMel(floor=2e-38)(torch.zeros(1, 600)).isfinite().all()

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (torch.zeros(2, 16000, dtype=torch.int16), TypeError, "32768"),
            (np.zeros((2, 16000)), TypeError, "ndarray"),
            (torch.zeros(2, 2, 16000), ValueError, "average the channels"),
            (torch.zeros(16000), ValueError, "batch axis"),
            (torch.zeros(2, 511), ValueError, "window"),
            (torch.zeros(1, 1), ValueError, "window"),
            (torch.zeros(0, 16000), ValueError, "at least one clip"),
        ],
    )
    def test_bad_waveforms(self, x, error, message):
        for call in (LogMel(), SpectrogramMixup(LogMel())):
            with pytest.raises(error, match=message):
                call(x)

    @pytest.mark.parametrize(
        ("lengths", "error", "message"),
        [
            (torch.tensor([16_001, 8_000]), ValueError, "16001"),
            (torch.tensor([0, 8_000]), ValueError, "one window"),
            (torch.tensor([8_000.0, 8_000.0]), TypeError, "int64"),
            (torch.tensor([8_000]), ValueError, "shape"),
            ([8_000, 8_000], TypeError, "list"),
        ],
    )
    def test_bad_lengths(self, lengths, error, message):
        for call in (LogMel(), SpectrogramMixup(LogMel())):
            with pytest.raises(error, match=message):
                call(torch.zeros(2, 16_000), lengths)

    def test_bad_samples_are_named(self, speech):
        x = speech.clone()
        x[3, 100], x[5, 7] = float("nan"), float("inf")
        with pytest.raises(ValueError, match=r"rows \[3, 5\]"):
            LogMel(check_finite=True)(x)
        lengths = torch.full((12,), 16_000)
        lengths[3] = lengths[5] = 8_000
        x[3, 100] = x[5, 7] = 0.0
        x[3, 9_000] = float("nan")  # behind the end: none of our business
        assert LogMel(check_finite=True)(x, lengths).isfinite().all()


def slow_mix(front, x, mixture, domain, gain_aware, lengths=None):
    """The specification, one row at a time and in float64; loudness from its definition."""
    x = x.double()
    if lengths is not None:
        x = x * (torch.arange(x.shape[1]) < lengths[:, None])
    rows = []
    for i, j in enumerate(mixture.partner.tolist()):
        lam = float(mixture.lam if mixture.lam.ndim == 0 else mixture.lam[i])
        a, b = x[i : i + 1], x[j : j + 1]
        loud = []
        for k in (i, j):
            n = x.shape[1] if lengths is None else int(lengths[k])
            windows = [x[k, s : s + 1600].square().sum() / min(1600, n) for s in range(0, x.shape[1], 800)]
            loud.append(max(windows).sqrt().item())
        equalised = gain_aware and min(loud) >= SILENCE
        gain = loud[0] / loud[1] if equalised else 1.0
        if domain == "waveform":
            p = lam / (lam + gain * (1 - lam))
            level = (p**2 + (1 - p) ** 2) ** 0.5 if equalised else 1.0
            rows.append(front((p * a + (1 - p) * b) / level))
        elif domain == "power":
            p = lam / (lam + gain**2 * (1 - lam))
            rows.append(front.log(p * front.power(a) + (1 - p) * front.power(b)))
        else:
            p, q = gain ** (2 * (lam - 1)), gain ** (2 * lam)
            rows.append(lam * front.log(p * front.power(a)) + (1 - lam) * front.log(q * front.power(b)))
    return torch.cat(rows)


class TestSpectrogramMixup:
    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    @pytest.mark.parametrize("per", ["batch", "pair", "sample"])
    def test_equals_the_specification(self, speech, domain, gain_aware, per, device):
        front = LogMel(n_mels=24).to(device)
        mixup = SpectrogramMixup(front, 1.0, domain, gain_aware=gain_aware, per=per)
        spec, mixture = mixup(speech.to(device), generator=generator(3))
        expected = draw_mixture(12, 1.0, per=per, generator=generator(3))
        assert torch.equal(mixture.lam.cpu(), expected.lam) and torch.equal(mixture.partner.cpu(), expected.partner)
        slow = slow_mix(LogMel(n_mels=24), speech, expected, domain, gain_aware)
        torch.testing.assert_close(spec.cpu().double(), slow, rtol=1e-3, atol=5e-3)
        assert (spec.cpu().double() - slow).abs().mean() < 1e-4

    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    def test_unequal_lengths(self, speech, domain, gain_aware):
        lengths = torch.randint(1_000, 16_000, (12,), generator=generator())
        x = speech.clone()
        x[torch.arange(16_000) >= lengths[:, None]] = float("nan")
        mixup = SpectrogramMixup(LogMel(n_mels=24), 1.0, domain, gain_aware=gain_aware)
        spec, mixture = mixup(x, lengths, generator=generator(1))
        slow = slow_mix(mixup.log_mel, speech, mixture, domain, gain_aware, lengths)
        torch.testing.assert_close(spec.double(), slow, rtol=1e-3, atol=1e-2)

    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    def test_pure_rows_stay_what_they_are(self, speech, domain, gain_aware):
        mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=gain_aware)
        partner = torch.randperm(12, generator=generator())
        plain = mixup.log_mel(speech)
        torch.testing.assert_close(mixup.mix(speech, Mixture(torch.tensor(1.0), partner)), plain, rtol=1e-4, atol=1e-4)
        other = mixup.mix(speech, Mixture(torch.zeros(12), partner))
        torch.testing.assert_close(other, plain[partner], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_evaluation_and_alpha_zero_are_the_front_end(self, speech, domain):
        for mixup in (SpectrogramMixup(LogMel(), 1.0, domain).eval(), SpectrogramMixup(LogMel(), 0.0, domain)):
            spec, mixture = mixup(speech)
            assert torch.equal(spec, mixup.log_mel(speech))
            assert torch.equal(mixture.matrix(), torch.eye(12))

    def test_domains_are_ordered_by_jensen(self, speech):
        """Log of a mean is no less than the mean of logs, bin by bin."""
        power, log = (SpectrogramMixup(LogMel(), 1.0, d)(speech, generator=generator())[0] for d in ("power", "log"))
        assert (power >= log - 1e-4).all()
        assert (power > log + 0.1).float().mean() > 0.5

    def test_waveform_mixing_is_mixing_of_spectra(self, speech):
        front, mixup = LogMel(), SpectrogramMixup(LogMel(), 1.0, "waveform")
        spec, mixture = mixup(speech, generator=generator())
        torch.testing.assert_close(spec, front.log(front.mel(mixture.mix(front.stft(speech)))), rtol=1e-3, atol=2e-2)

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_gain_awareness_makes_the_share_independent_of_level(self, speech, domain):
        """Turning one clip down by 20 dB changes the mixture's level, not its spectrum."""
        x = speech[[0, 3]] + 0.0
        quiet = x * torch.tensor([[1.0], [0.1]])
        swap = Mixture(torch.tensor(0.5), torch.tensor([1, 0]))
        results = {}
        for gain_aware in (False, True):
            mixup = SpectrogramMixup(LogMel(floor=1e-14), 1.0, domain, gain_aware=gain_aware)
            a, b = mixup.mix(x, swap), mixup.mix(quiet, swap)
            shift = b - a  # a constant where only the level changed
            results[gain_aware] = shift.std().item()
        assert results[True] < 0.05
        if domain == "log":
            assert results[False] < 0.05, "a gain is a constant in a logarithm"
        else:
            assert results[False] > 0.5

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_silence_takes_part_without_harm(self, speech, domain):
        x = speech[:4].clone()
        x[1] = x[2] = 0
        x.requires_grad_()
        mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=True)
        mixture = Mixture(torch.tensor(0.3), torch.tensor([1, 2, 3, 0]))
        spec = mixup.mix(x, mixture)
        assert spec.isfinite().all()
        spec.sum().backward()
        assert x.grad.isfinite().all()
        plain = SpectrogramMixup(LogMel(), 1.0, domain)
        torch.testing.assert_close(spec[:3], plain.mix(x, mixture)[:3])

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_a_clip_thousands_of_times_louder_drowns_nothing(self, speech, domain):
        """The weights stand at 1 to 6 million here: neither may be one less the other, rounded to float32."""
        x = speech[[0, 3]] / loudness(speech[[0, 3]])[:, None] * torch.tensor([[0.5], [2e-4]])
        mixture = Mixture(torch.tensor([0.3, 0.8]), torch.tensor([1, 0]))
        spec = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=True).mix(x, mixture).double()
        assert (spec - slow_mix(LogMel(), x, mixture, domain, True)).abs().max() < 2e-3

    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    def test_a_mixture_of_another_batch_is_named(self, speech, domain, gain_aware):
        mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=gain_aware)
        for size in (1, 2, 6):
            with pytest.raises(ValueError, match=rf"waveforms: expected shape \({size}, \.\.\.\).*\(4, 16000\)"):
                mixup.mix(speech[:4], Mixture.identity(size))

    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    def test_gradient_reaches_both_clips(self, speech, domain, gain_aware):
        x = speech[:2].clone().requires_grad_()
        mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=gain_aware)
        mixup.mix(x, Mixture(torch.tensor(0.4), torch.tensor([1, 0])))[0].sum().backward()
        assert x.grad.isfinite().all() and (x.grad.abs().amax(1) > 0).all()

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_gradient_is_right(self, domain):
        front = LogMel(n_fft=32, hop_length=16, n_mels=4).double()
        mixup, swap = SpectrogramMixup(front, 1.0, domain), Mixture(torch.tensor(0.25), torch.tensor([1, 0]))
        x = torch.randn(2, 64, dtype=torch.float64, generator=generator(), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: mixup.mix(x, swap), (x,))

    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    def test_audit(self, domain, gain_aware):
        report = audit(SpectrogramMixup(LogMel(), 0.6, domain, gain_aware=gain_aware), alpha=0.6)
        assert report.ok, report

    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    def test_autocast(self, speech, device, domain, gain_aware):
        mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=gain_aware).to(device)
        plain, _ = mixup(speech.to(device), generator=generator())
        with torch.autocast(device.type, torch.bfloat16):
            spec, mixture = mixup(speech.to(device), generator=generator())
        assert spec.dtype == torch.float32 and mixture.lam.dtype == torch.float32
        assert torch.equal(spec, plain)

    @pytest.mark.parametrize("domain", DOMAINS)
    def test_callers_tensors_and_global_random_state_stay(self, speech, domain):
        x, state = speech.clone(), torch.get_rng_state()
        mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=True)
        first, again = (mixup(x, generator=generator(5)) for _ in range(2))
        assert torch.equal(x, speech) and torch.equal(torch.get_rng_state(), state)
        assert torch.equal(first[0], again[0])

    @pytest.mark.parametrize("domain", DOMAINS)
    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_any_batch_size(self, speech, domain, size):
        for per in ("batch", "pair", "sample"):
            mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=True, per=per)
            spec, mixture = mixup(speech[:size])
            assert spec.shape == (size, 40, 101) and len(mixture) == size

    def test_trains_with_the_loss(self, speech):
        """The six lines of the documentation."""
        model, labels = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40 * 101, 10)), torch.arange(12) % 10
        spec, mixture = SpectrogramMixup(LogMel(), alpha=0.2, domain="power")(speech)
        mixture.loss(F.cross_entropy, model(spec), labels).backward()
        assert model[1].weight.grad.isfinite().all()

    @pytest.mark.slow
    @pytest.mark.parametrize("gain_aware", [False, True])
    @pytest.mark.parametrize("domain", DOMAINS)
    @pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
    def test_compiles_without_a_break(self, speech, domain, gain_aware):
        mixup = SpectrogramMixup(LogMel(), 1.0, domain, gain_aware=gain_aware)
        torch._dynamo.reset()
        spec, mixture = torch.compile(mixup, fullgraph=True, backend="aot_eager")(speech)
        torch.testing.assert_close(spec, mixup.mix(speech, mixture), rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"domain": "mel"}, ValueError, "domain"),
            ({"alpha": -1.0}, ValueError, "alpha"),
            ({"log_mel": torch.nn.Identity()}, TypeError, "log_mel"),
            ({"per": "row"}, ValueError, "per"),
        ],
    )
    def test_bad_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            SpectrogramMixup(**({"log_mel": LogMel()} | settings))


class TestLoudness:
    def test_a_sine(self):
        x = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)[None]
        assert loudness(x).item() == pytest.approx(0.5 / 2**0.5, rel=1e-3)

    @given(st.floats(1e-3, 1.0), st.integers(1_600, 14_000))
    def test_gain_and_pauses(self, gain, start):
        x = torch.zeros(1, 16_000)
        x[0, start : start + 2_000] = torch.randn(2_000, generator=generator())
        assert loudness(gain * x).item() == pytest.approx(gain * loudness(x).item(), rel=1e-5)
        longer = F.pad(x, (0, 8_000))
        assert loudness(longer).item() == pytest.approx(loudness(x).item(), rel=1e-6)

    def test_a_clip_shorter_than_a_window_is_averaged_over_itself(self):
        x = torch.zeros(2, 16_000)
        x[0, :600], x[1] = 0.25, 0.25
        assert torch.allclose(loudness(x, torch.tensor([600, 16_000])), torch.tensor(0.25))
        assert torch.allclose(loudness(torch.full((1, 600), 0.25)), torch.tensor(0.25))

    def test_mixed_lengths(self):
        lengths = torch.tensor([3, 9, 5])
        lam = torch.tensor([0.5, 1.0, 0.0])
        assert mixed_lengths(lengths, Mixture(lam, torch.tensor([2, 0, 1]))).tolist() == [5, 9, 9]
        assert mixed_lengths(lengths, Mixture(torch.tensor(0.3), torch.tensor([1, 2, 0]))).tolist() == [9, 9, 5]
        for wrong, error in ((lengths[:2], ValueError), ([3, 9, 5], TypeError)):
            with pytest.raises(error, match="lengths: expected"):
                mixed_lengths(wrong, Mixture.identity(3))
