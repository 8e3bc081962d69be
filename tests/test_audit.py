"""The audit of planted bugs, of other people's mixups and of right ones; the matrix it reads; the report it gives."""

import random
import re
import warnings

import numpy as np
import pytest
import torch
from gallery import BUGS, beta, folded_lam, narrow_lam, one_sided_beta, right, rounded_lam, rows_of
from torch import nn
from torchvision.transforms import v2

from mixup_modalities import CutMix, ImageMixup, Mixture, audit, draw_mixture, mixing_matrix
from mixup_modalities.report import Check, Report

SETTINGS = [(per, pairing) for per in ("batch", "pair", "sample") for pairing in ("shuffle", "roll", "flip")]


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what other people's mixups draw from
    random.seed(seed)


@pytest.fixture(autouse=True)
def seeded():
    seed_all(0)


# --- right mixups ----------------------------------------------------------------------------------------------------


class FalseAlarms:
    """Of 200 audits of right mixups at most 1 % raise an alarm. Two halves: two processes share the work."""

    first = 0

    @pytest.mark.slow
    def test_at_most_one_in_a_hundred(self):
        alarms = []
        for i in range(self.first, self.first + 100):
            per, pairing = SETTINGS[i % 9]
            alpha = (0.05, 0.1, 0.2, 0.4, 1.0, 2.0, 8.0)[i % 7]
            seed_all(i)
            report = audit(ImageMixup(alpha, per=per, pairing=pairing), alpha=alpha, batch_size=(8, 4)[i % 2])
            if not report.ok:
                alarms.append((i, per, pairing, alpha, [report[name].evidence for name in report.failed]))
            assert report.noted == ([] if pairing == "shuffle" else ["pairing changes"])
        assert len(alarms) <= 1, alarms


class TestFalseAlarmsOfTheFirstHundred(FalseAlarms):
    first = 0


class TestFalseAlarmsOfTheSecondHundred(FalseAlarms):
    first = 100


def authors_form(x, y):
    """(x_mixed, y_a, y_b, lam), as in the code that came with the paper."""
    lam, partner = beta(), torch.randperm(len(x))
    return lam * x + (1 - lam) * x[partner], y, y[partner], lam


def half_of_the_time(x, y):
    return right(x, y) if random.random() < 0.5 else (x.clone(), rows_of(y))


def complementary_pairs(x, y):
    """Row i of a pair takes lam, its partner 1 - lam."""
    order = torch.randperm(len(x))
    partner, lam = torch.arange(len(x)), torch.ones(len(x))
    for a, b in zip(order[0::2], order[1::2]):
        partner[a], partner[b] = b, a
        lam[a], lam[b] = (share := beta()), 1 - share
    return right(x, y, lam, partner)


def on_a_grid(x, y):
    return right(x, y, (random.randrange(16) + 0.5) / 16)


def smoothed(x, y):
    mixed, targets = right(x, y)
    return mixed, 0.9 * targets + 0.1 / 16


RIGHT = {
    "plain": (right, []),
    "the authors' form": (authors_form, []),
    "a mixture comes back": (lambda x, y: ((m := draw_mixture(len(x), 1.0)).mix(x), m), []),
    "with probability 1/2": (half_of_the_time, []),
    "complementary pairs": (complementary_pairs, []),
    "lam on a grid": (on_a_grid, []),
    "smoothed labels": (smoothed, ["labels not smoothed"]),
    "CutMix": (CutMix(1.0), ["one weight a row", "lam ~ Beta(1, 1)", "E[lam] = 1/2"]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_in_another_form_is_right(name):
    mixup, notes = RIGHT[name]
    report = audit(mixup)
    assert report.ok, report
    assert report.noted == notes


@pytest.mark.parametrize("alpha", [1e-4, 1e-3, 0.01, 32.0, 1e6])
def test_extreme_alpha_is_right(alpha):
    report = audit(ImageMixup(alpha), alpha=alpha, batch_size=8)
    assert report.ok, report
    if alpha < 1e-3:
        assert "too few to judge" in report[f"lam ~ Beta({alpha:g}, {alpha:g})"].evidence


# --- planted bugs ----------------------------------------------------------------------------------------------------


class TestGallery:
    @pytest.mark.parametrize("bug", BUGS, ids=str)
    def test_names_the_fault(self, bug):
        report = audit(bug.mixup, alpha=bug.alpha)
        assert report[bug.check].verdict == bug.verdict, report
        assert re.search(bug.evidence, report[bug.check].evidence), report
        assert report.ok is (bug.verdict == "note")
        if bug.verdict == "fail":  # and nothing else is accused
            assert set(report.failed) == {bug.check, *bug.also}, report

    def test_has_the_errors_that_can_be_written_as_a_mixup(self):
        assert len({bug.row for bug in BUGS} - {None}) >= 16
        assert all(bug.mixup.__doc__ is None or "right" not in bug.mixup.__doc__ for bug in BUGS)


# Caught every time, not for one lucky seed.
WRONG = {
    "U(0.3, 0.5)": (narrow_lam, 1.0, "lam ~ Beta(1, 1)"),
    "Beta(1, 4)": (one_sided_beta, 4.0, "lam ~ Beta(4, 4)"),
    "Beta(1, 0.2)": (lambda x, y: right(x, y, beta(1.0, 0.2)), 0.2, "E[lam] = 1/2"),
    "folded": (folded_lam, 1.0, "E[lam] = 1/2"),
    "fixed": (lambda x, y: right(x, y, 0.3), 1.0, "lam varies"),
    "alpha 0.2 for 1": (ImageMixup(0.2), 1.0, "lam ~ Beta(1, 1)"),
    "rounded": (rounded_lam, 1.0, "dtype and device kept"),
    "alpha 1 for 0.4": (ImageMixup(1.0), 0.4, "lam ~ Beta(0.4, 0.4)"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_wrong_lam_is_caught_every_time(name, seed):
    mixup, alpha, check = WRONG[name]
    seed_all(seed)
    assert check in audit(mixup, alpha=alpha).failed


def test_another_alpha_than_the_module_has_is_explained():
    report = audit(ImageMixup(0.2), batch_size=8)
    assert "the mixup says alpha = 0.2: pass audit(..., alpha=0.2)" in report["lam ~ Beta(1, 1)"].evidence


def test_an_error_in_a_later_call_is_a_verdict():
    calls = []

    def tires(x, y):
        calls.append(1)
        if len(calls) > 100:
            raise OSError("out of luck\nmore")
        return right(x, y)

    report = audit(tires)
    assert report.failed == ["runs"]
    assert report["runs"].evidence == "call 101: OSError: out of luck"
    assert report.w_x is None


@pytest.mark.parametrize(
    ("returned", "evidence"),
    [
        (lambda x, y: x, "TypeError: expected a pair (x_mixed, soft_targets) back, got Tensor"),
        (lambda x, y: None, "TypeError: expected a pair (x_mixed, soft_targets) back, got NoneType"),
        (lambda x, y: (x.long(), y), "TypeError: expected floating features back, got torch.int64"),
        (lambda x, y: (x.numpy(), y), "TypeError: expected floating features back, got float32"),
        (lambda x, y: (x[0], y), "ValueError: expected features of shape (16, 16, 16, 16) back, got (16, 16, 16)"),
    ],
)
def test_what_is_no_mixup_does_not_run(returned, evidence):
    report = audit(returned)
    assert report.failed == ["runs"]
    assert report["runs"].evidence == evidence


def test_labels_that_come_back_as_they_went_in_are_called_that():
    report = audit(lambda x, y: (right(x, y)[0], y))
    assert "class numbers were returned, not one-hot rows" in report["labels are soft rows"].evidence


def test_a_sleeping_module_is_woken_by_nobody_but_the_evidence_says_how():
    module = ImageMixup(1.0).eval()
    report = audit(module, batch_size=8)
    assert "call .train() first" in report["not the identity"].evidence
    assert not module.training
    awake = ImageMixup(1.0)
    assert audit(awake, batch_size=8).ok
    assert awake.training


def test_parts_of_a_module_keep_their_modes():
    module = nn.Sequential(nn.BatchNorm2d(8), nn.Dropout()).eval()
    module.forward = right
    module.training = module[1].training = True
    audit(module, batch_size=8)
    assert [part.training for part in module.modules()] == [True, False, True]


class TakesNumbersInEvaluation(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.order = torch.tensor(order)

    def forward(self, x, y):
        return right(x, y) if self.training else (x, y[self.order[: len(y)]])


@pytest.mark.parametrize(("order", "passes"), [(range(16), True), (range(15, -1, -1), False)])
def test_class_numbers_in_evaluation_are_the_labels_of_the_rows(order, passes):
    report = audit(TakesNumbersInEvaluation(order))
    assert report.ok is passes, report


def test_a_generator_of_its_own_cannot_be_seeded_from_outside():
    generator, module = torch.Generator(), ImageMixup(1.0)
    report = audit(lambda x, y: module(x, generator=generator), batch_size=8)
    assert report.failed == ["reproducible when seeded"]
    assert "a generator of its own?" in report["reproducible when seeded"].evidence


def test_what_is_no_number_is_drawn_and_reproducible():
    report = audit(lambda x, y: (right(x, y)[0] * float("nan"), rows_of(y)))
    assert "rows sum to one" in report.failed
    assert report["reproducible when seeded"].verdict == "pass"
    assert report.draw().splitlines()[1] == "??" * 16 + "   ██" + "  " * 15
    assert report._repr_html_().count("#b3261e") >= 16 * 16


# --- other people's mixups -------------------------------------------------------------------------------------------


class TestPeers:
    @pytest.mark.parametrize("alpha", [0.2, 1.0])
    def test_torchvision_is_right_with_a_note_on_its_pairing(self, alpha):
        report = audit(v2.MixUp(alpha=alpha, num_classes=16), alpha=alpha)
        assert report.ok, report
        assert report.noted == ["pairing changes", "nothing mixed in eval"]
        assert "as long as the loader shuffles" in report["pairing changes"].evidence
        assert "keep them out of the validation loader" in report["nothing mixed in eval"].evidence

    def test_torchvision_is_wrong_at_tiny_alpha(self):
        report = audit(v2.MixUp(alpha=0.001, num_classes=16), alpha=0.001)
        assert report.failed == ["lam ~ Beta(0.001, 0.001)"]

    def test_torchvision_cutmix_is_right(self):
        report = audit(v2.CutMix(alpha=1.0, num_classes=16))
        assert report.ok, report
        assert "regions are pasted" in report["one weight a row"].evidence

    @pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
    def test_timm_changes_the_batch_and_refuses_odd_ones(self, mode):
        from timm.data import Mixup

        report = audit(Mixup(mixup_alpha=1.0, num_classes=16, label_smoothing=0.0, mode=mode))
        rounded = [] if mode == "batch" else ["dtype and device kept"]
        assert report.failed == ["caller's tensors untouched", *rounded, "odd batch", "batch of one"]
        assert report["caller's tensors untouched"].evidence == "x changed in place"
        assert "AssertionError: Batch size should be even" in report["odd batch"].evidence
        if rounded:
            assert report["dtype and device kept"].evidence == "labels rounded to torch.bfloat16 as the features are"
        assert report.noted == ["pairing changes"]

    @pytest.mark.parametrize("alpha", [0.2, 1.0])
    def test_kornia_is_uniform_whatever_alpha(self, alpha):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from kornia.augmentation import RandomMixUpV2
        mix = RandomMixUpV2(data_keys=["input", "class"])

        def mixup(x, y):
            mixed, labels = mix(x, y)
            _, partner, share = labels.unbind(1)
            return mixed, Mixture(1 - share.float(), torch.arange(len(x))[partner.long()])

        report = audit(mixup, alpha=alpha)
        if alpha == 1:
            assert report.ok, report
        else:
            assert report.failed == ["lam ~ Beta(0.2, 0.2)"]
            assert "lam is uniform, Beta(1, 1)" in report["lam ~ Beta(0.2, 0.2)"].evidence


# --- the audit leaves no trace ---------------------------------------------------------------------------------------


def global_states() -> tuple:
    on_gpu = [s.tolist() for s in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else None
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate(), on_gpu  # noqa: NPY002


def boom(x, y):
    random.random()
    raise RuntimeError("boom")


@pytest.mark.parametrize("mixup", [ImageMixup(1.0), right, boom], ids=["module", "callable", "raising"])
def test_global_random_states_are_left_as_they_were(mixup):
    np.random.standard_normal()  # noqa: NPY002  half of a pair is kept for the next call
    before = global_states()
    audit(mixup)
    assert global_states() == before


def test_interrupting_an_audit_puts_the_states_back():
    def interrupted(x, y):
        torch.rand(1), np.random.random(), random.random()  # noqa: NPY002
        raise KeyboardInterrupt

    before = global_states()
    with pytest.raises(KeyboardInterrupt):
        audit(interrupted)
    assert global_states() == before


# --- the matrix ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 5, 40])
@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_mixing_matrix_is_the_matrix_of_the_mixture(batch_size, setting):
    per, pairing = setting
    torch.manual_seed(3)
    w = mixing_matrix(ImageMixup(0.7, per=per, pairing=pairing), torch.tensor(batch_size))
    torch.manual_seed(3)
    assert w.dtype == torch.float32
    torch.testing.assert_close(w, draw_mixture(batch_size, 0.7, per=per, pairing=pairing).matrix())


def test_mixing_matrix_of_cutmix_holds_the_kept_area():
    torch.manual_seed(3)
    w = mixing_matrix(CutMix(1.0, per="sample", pairing="roll"), 5)
    torch.manual_seed(3)
    lam = CutMix(1.0, per="sample", pairing="roll")(torch.zeros(5, 5, 5, 5))[1].lam
    torch.testing.assert_close(w.diagonal(), lam)
    torch.testing.assert_close(w.sum(1), torch.ones(5))


def test_mixing_matrix_of_a_broken_mixup_shows_what_is_broken():
    w = mixing_matrix(lambda x, y: (0.5 * x[:2] + 0.7 * x[1:3], y), 4)
    torch.testing.assert_close(w, torch.tensor([[0.5, 0.7, 0, 0], [0, 0.5, 0.7, 0]]))


def test_mixing_matrix_of_a_large_batch_fits_in_memory():
    assert mixing_matrix(ImageMixup(1.0), 200).shape == (200, 200)


BAD = {
    "not callable": (lambda: audit(0.2), TypeError, r"mixup: expected a callable .*got float"),
    "matrix of no callable": (lambda: mixing_matrix(None, 4), TypeError, r"mixup: expected a callable .*got NoneType"),
    "matrix of no rows": (lambda: mixing_matrix(right, 0), ValueError, r"batch_size: expected at least one row, got 0"),
    "alpha 0": (lambda: audit(right, alpha=0), ValueError, r"alpha: expected a number > 0, got 0"),
    "alpha negative": (
        lambda: audit(right, alpha=-1.0),
        ValueError,
        r"alpha: expected a finite number >= 0, got -1\.0",
    ),
    "alpha too large": (
        lambda: audit(right, alpha=1e8),
        ValueError,
        r"alpha: expected a number up to 1e\+06, .*got 1e\+08",
    ),
    "batch odd": (lambda: audit(right, batch_size=7), ValueError, r"batch_size: expected an even number >= 4, got 7"),
    "batch of two": (
        lambda: audit(right, batch_size=2),
        ValueError,
        r"batch_size: expected an even number >= 4, got 2",
    ),
    "batch fractional": (
        lambda: audit(right, batch_size=8.0),
        TypeError,
        r"batch_size: expected an integer >= 1, got float",
    ),
    "matrix of nothing": (lambda: mixing_matrix(lambda x, y: None, 4), TypeError, r"expected a pair .*got NoneType"),
    "matrix of another shape": (
        lambda: mixing_matrix(lambda x, y: (x[:, :2], y), 4),
        ValueError,
        r"expected features .*got \(4, 2, 4, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=f"^{message}"):
        call()


# --- the report ------------------------------------------------------------------------------------------------------


def report_of_three() -> Report:
    checks = [
        Check("runs", "pass", "it does"),
        Check("pairing", "note", "fixed"),
        Check("labels <b>", "fail", "5 < 6 & 7"),
    ]
    return Report(checks, torch.tensor([[0.5, 0.5], [0.0, 1.5]]), torch.eye(2))


def test_report_answers():
    report = report_of_three()
    assert (report.ok, report.failed, report.noted) == (False, ["labels <b>"], ["pairing"])
    assert report["pairing"].evidence == "fixed"
    with pytest.raises(KeyError, match=r"no check named 'lam'; there are runs, pairing, labels <b>"):
        report["lam"]
    assert report.summary() == "FAIL: 3 checks, 1 failed, 1 noted"
    assert Report(report.checks[:2]).ok
    assert Report(report.checks[:2]).summary() == "OK: 2 checks, 1 noted"


def test_a_brief_report_leaves_out_what_passed_and_counts_it():
    report = report_of_three()
    brief = report.brief()
    assert [check.name for check in brief.checks] == ["pairing", "labels <b>"]
    assert brief.summary() == brief.brief().summary() == report.summary()
    assert (brief.failed, brief.w_x, brief.w_y) == (report.failed, report.w_x, report.w_y)
    assert len(report.checks) == 3 and Report(report.checks[:1]).brief().summary() == "OK: 1 check"


def test_report_prints_as_a_table():
    lines = str(report_of_three()).splitlines()
    assert lines[0].startswith("FAIL")
    assert [line.split()[0] for line in lines[1:]] == ["pass", "note", "fail"]
    assert len({line.index(evidence) for line, evidence in zip(lines[1:], ["it does", "fixed", "5 < 6"])}) == 1
    assert repr(report_of_three()) == str(report_of_three())


def test_report_draws_both_matrices():
    assert report_of_three().draw().splitlines()[1:] == ["▒▒▒▒   ██  ", "  ██     ██"]
    assert "no matrices" in Report().draw()


def test_report_in_a_notebook_escapes_and_describes():
    page = report_of_three()._repr_html_()
    assert "labels &lt;b&gt;" in page
    assert "5 &lt; 6 &amp; 7" in page
    assert page.count('role="img" aria-label="W_') == 2
    assert "<figcaption>W<sub>x</sub>, the features</figcaption>" in page
    assert "<figcaption>W<sub>y</sub>, the labels</figcaption>" in page
    assert page.count("<rect") == 3 + 2
    assert page.count("#b3261e") == 1 + 1  # the verdict, and the weight outside [0, 1]
    assert page.count("<tr>") == 1 + 3
    assert "<svg" not in Report()._repr_html_()


def test_the_matrices_of_a_report_are_those_of_one_call():
    report = audit(ImageMixup(1.0), batch_size=8)
    assert report.w_x.shape == report.w_y.shape == (8, 8)
    torch.testing.assert_close(report.w_x, report.w_y)
    assert nn.functional.one_hot(report.w_x.argmax(1), 8).sum() == 8
