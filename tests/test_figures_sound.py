"""Spectrograms, their slider, and players: what they hold, and what they refuse."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch

from mixup_modalities.lab.figures import Players, alt_text, panel_axes, show_spectrograms, spectrogram_slider


def specs(count, mels=8, frames=20):
    return torch.randn(count, mels, frames, generator=torch.Generator().manual_seed(0))


def test_spectrograms_share_one_scale_and_show_their_values():
    a, b, c, d = specs(4)
    figure = show_spectrograms({"a": a, "b": 3 * b, "c": c, "d": d}, frames_per_second=100, limits=(-2, 2))
    axes = panel_axes(figure)
    assert [ax.get_title() for ax in axes[:4]] == ["a", "b", "c", "d"]
    meshes = [ax.collections[0] for ax in axes[:4]]
    assert {mesh.get_clim() for mesh in meshes} == {(-2, 2)}
    torch.testing.assert_close(torch.from_numpy(np.asarray(meshes[1].get_array())).reshape(8, 20), 3 * b)
    assert "a, b, c, d" in alt_text(figure)
    assert figure.png().startswith(b"\x89PNG")


def test_spectrograms_in_hertz_and_seconds():
    figure = show_spectrograms({"a": specs(1)[0]}, frames_per_second=20, frequencies=torch.linspace(60, 7800, 8))
    ax = panel_axes(figure)[0]
    assert ax.get_xlim()[1] == pytest.approx(1, abs=0.06) and ax.get_ylim() == (60, 7800)
    assert ax.get_ylabel() == "frequency (Hz)" and ax.get_xlabel() == "time (s)"


def test_the_default_scale_leaves_out_what_is_inaudible():
    spec = specs(1)[0]
    spec[0, 0] = -60.0
    figure = show_spectrograms({"a": spec}, frames_per_second=100)
    low, high = panel_axes(figure)[0].collections[0].get_clim()
    assert high == pytest.approx(float(spec.max())) and low == pytest.approx(high - 12)


def test_slider_holds_each_frame_in_one_byte_a_cell():
    stack = specs(5)
    figure = spectrogram_slider({"one": stack, "two": 2 * stack}, list("abcde"), limits=(-2.0, 2.0), start=3)
    assert len(figure.frames) == 5 and figure.layout.sliders[0].active == 3
    for f, frame in enumerate(figure.frames):
        cells = np.asarray(frame.data[1].z)
        assert cells.dtype == np.uint8
        expected = (2 * stack[f]).clamp(-2, 2).numpy()
        assert np.abs(cells / 255 * 4 - 2 - expected).max() < 4 / 255
    assert "λ = a to λ = e" in alt_text(figure)


def test_slider_tells_the_time_in_seconds_if_it_knows_the_rate():
    stack = specs(5)
    figure = spectrogram_slider({"one": stack}, list("abcde"), limits=(-2.0, 2.0), frames_per_second=20)
    assert figure.layout.xaxis.title.text == "time (s)" and figure.layout.yaxis.title.text == "mel band"
    assert figure.layout.xaxis.showticklabels is None and all(frame.data[0].dx == 1 / 20 for frame in figure.frames)
    without = spectrogram_slider({"one": stack}, list("abcde"), limits=(-2.0, 2.0))
    assert without.layout.xaxis.title.text == "time" and without.layout.xaxis.showticklabels is False


@pytest.mark.parametrize("stack", [specs(4), specs(5)[0], torch.zeros(5, 2, 2, 2)])
def test_slider_refuses_another_number_of_frames(stack):
    with pytest.raises(ValueError, match=r"panels\['one'\]"):
        spectrogram_slider({"one": stack}, list("abcde"), limits=(0.0, 1.0))


def test_spectrograms_refuse_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"panels\['a'\].*shape \(mels, frames\)"):
        show_spectrograms({"a": torch.zeros(3)}, frames_per_second=100)


def decoded(html):
    found = re.findall(r'aria-label="([^"]*)".*?base64,([A-Za-z0-9+/=]+)', html)
    return {name: soundfile.read(io.BytesIO(base64.b64decode(data))) for name, data in found}


def test_players_hold_the_sounds():
    time = torch.arange(16_000) / 16_000
    low, high = (torch.sin(2 * torch.pi * f * time) for f in (300, 1200))
    players = Players({"λ < 1": {"low": 0.5 * low, "high": 0.5 * high}, "loud": {"low": 4 * low}})
    html = players._repr_html_()
    sounds = decoded(html)
    assert set(sounds) == {"λ &lt; 1, low", "λ &lt; 1, high", "loud, low"}
    for name, expected in (("λ &lt; 1, low", 0.5 * low), ("λ &lt; 1, high", 0.5 * high), ("loud, low", low)):
        x, rate = sounds[name]
        assert rate == 16_000 and abs(len(x) - 16_000) < 2_400
        middle = slice(2_000, 14_000)
        assert np.corrcoef(x[middle], expected[middle])[0, 1] > 0.98
        assert np.abs(x).max() == pytest.approx(float(expected.max()), abs=0.1)
    assert html.count("<audio") == 3 and html.count("<td></td>") == 2  # the corner, and "loud, high"
    assert len(html) < 40_000
    assert "λ < 1" in repr(players) and "/" not in repr(players)


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 100), torch.zeros(0), torch.full((100,), float("nan")), torch.zeros(9, dtype=torch.complex64)]
)
def test_players_refuse_what_is_no_sound(x):
    with pytest.raises(ValueError, match=r"rows\['a'\]\['b'\]"):
        Players({"a": {"b": x}})
