"""fit, predict and evaluate: they learn, repeat, resume, measure what they say, and refuse what cannot be trained."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixup_modalities import CutMix, ImageMixup, Mixture
from mixup_modalities.lab import training
from mixup_modalities.lab.metrics import expected_loss_floor
from mixup_modalities.lab.models import MLP, ConvNet
from mixup_modalities.lab.runtime import seeded
from mixup_modalities.lab.schedules import SCHEDULES, learning_rate
from mixup_modalities.lab.splits import Split
from mixup_modalities.lab.training import evaluate, fit, predict


def blobs(n: int = 300, classes: int = 3, seed: int = 0) -> Split:
    """Points around the corners of a simplex, well apart."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    return Split(4 * torch.eye(classes)[y] + torch.randn(n, classes, generator=g), y)


def images(n: int = 200, seed: int = 0) -> Split:
    """Dark images and bright ones, 8x8 uint8."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=g)
    x = torch.randint(0, 100, (n, 1, 8, 8), generator=g) + 100 * y[:, None, None, None]
    return Split(x.to(torch.uint8), y)


def mlp(seed: int = 0, classes: int = 3) -> MLP:
    with seeded(seed):
        return MLP([classes, 16, classes])


def train(model: nn.Module, split: Split, **options) -> training.History:
    return fit(model, split, **{"epochs": 4, "batch_size": 32, "progress": False, "device": "cpu"} | options)


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
@pytest.mark.parametrize("mixup", [None, ImageMixup(1.0), ImageMixup(1.0, per="sample")], ids=["erm", "one", "each"])
def test_fit_learns(device, optimizer, mixup):
    model = mlp()
    history = train(model, blobs(), mixup=mixup, optimizer=optimizer, lr=0.02, epochs=10, device=device)
    assert evaluate(model, blobs(seed=1)).accuracy > 0.95
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    assert not model.training
    assert next(model.parameters()).device.type == device.type


def test_a_conv_net_learns_from_uint8_images_mixed_and_cut(device):
    for mixup in (ImageMixup(0.5), CutMix(0.5)):
        with seeded(0):
            model = ConvNet(2, size=8, width=4)
        train(model, images(), mixup=mixup, epochs=15, device=device)
        assert evaluate(model, images(seed=1)).accuracy > 0.95


def test_one_step_equals_the_formula():
    """SGD on the mixed loss, written out by hand from the mixture that was drawn."""
    split, model, drawn = blobs(32), mlp(), []

    class Remember(ImageMixup):
        def forward(self, x, *, generator=None):
            mixed, mixture = super().forward(x, generator=generator)
            drawn.append((x, mixture))
            return mixed, mixture

    by_hand = copy.deepcopy(model)
    history = train(model, split, mixup=Remember(1.0), epochs=1, lr=0.1, schedule="constant")
    ((x, mixture),) = drawn
    rows = [(split.x == point).all(1).nonzero().item() for point in x]
    y = F.one_hot(split.y[rows], 3).float()
    mixed = torch.stack([lam * x[i] + (1 - lam) * x[j] for i, (lam, j) in enumerate(pairs(mixture))])
    target = torch.stack([lam * y[i] + (1 - lam) * y[j] for i, (lam, j) in enumerate(pairs(mixture))])
    loss = -(target * by_hand.classify(mixed).log_softmax(1)).sum(1).mean()
    loss.backward()
    for p, q in zip(model.parameters(), by_hand.parameters()):
        torch.testing.assert_close(p, q - 0.1 * 1.9 * q.grad)  # Nesterov's first step is (1 + momentum) long
    assert history.final["loss"] == pytest.approx(loss.item(), rel=1e-5)
    entropy = -(target * target.clamp_min(1e-30).log()).sum(1).mean()
    assert history.final["loss_floor"] == pytest.approx(entropy.item(), rel=1e-4, abs=1e-6)


def pairs(mixture: Mixture) -> list[tuple[float, int]]:
    return list(zip(mixture.lam.expand(len(mixture)).tolist(), mixture.partner.tolist()))


def test_the_same_seed_gives_the_same_run_whatever_the_global_rng():
    split, models = blobs(), []
    for other in (1, 2):
        torch.manual_seed(other)
        models.append(mlp())
        history = train(models[-1], split, mixup=ImageMixup(1.0), validation=blobs(50, seed=1), seed=7)
        if other == 1:
            first = history.rows
    assert equal(*models) and history.rows == first
    third = mlp()
    train(third, split, mixup=ImageMixup(1.0), seed=8)
    assert not equal(models[0], third)


def test_fit_leaves_the_global_rng_as_it_was():
    class Noisy(MLP):
        def classify(self, h: Tensor) -> Tensor:
            return super().classify(F.dropout(h, 0.5, self.training))

    def run(seed: int) -> nn.Module:
        with seeded(0):
            model = Noisy([3, 8, 3])
        train(model, blobs(), mixup=ImageMixup(1.0), seed=seed)
        return model

    before = torch.get_rng_state()
    first = run(0)
    assert torch.equal(before, torch.get_rng_state())
    torch.randn(1)
    assert equal(first, run(0)) and not equal(first, run(1))  # dropout follows from the seed


def test_erm_and_mixup_see_the_same_batches():
    """So that two runs of one seed differ by the mixing alone."""
    seen = {}
    for name, mixup in (("erm", None), ("mixup", ImageMixup(1.0))):
        seen[name] = []
        train(mlp(), blobs(), mixup=mixup, augment=lambda x, g, to=seen[name]: to.append(x) or x)
    assert all(torch.equal(a, b) for a, b in zip(seen["erm"], seen["mixup"], strict=True))


def test_an_epoch_is_every_row_once_in_batches_of_about_one_size():
    seen = []
    train(mlp(), blobs(101), epochs=2, batch_size=25, augment=lambda x, g: seen.append(x) or x)
    assert [len(x) for x in seen] == [21, 20, 20, 20, 20] * 2
    for epoch in (seen[:5], seen[5:]):
        assert torch.equal(torch.cat(epoch).unique(dim=0), blobs(101).x.unique(dim=0))
    assert not torch.equal(seen[0], seen[5])


def test_mixup_at_alpha_zero_is_erm():
    models = [mlp(), mlp()]
    for model, mixup in zip(models, (None, ImageMixup(0.0))):
        train(model, blobs(), mixup=mixup)
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(*(m.parameters() for m in models)))


def test_the_history_measures_what_it_says():
    split, validation, model = blobs(), blobs(80, seed=1), mlp()
    history = train(model, split, mixup=ImageMixup(1.0), validation=validation, evaluate_every=3, epochs=4)
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
    guess = predict(model, split.x).argmax(1)
    assert history.final["clean_train_accuracy"] == (guess == split.y).double().mean()
    metrics = evaluate(model, validation)
    assert history.final["val_accuracy"] == metrics.accuracy
    assert history.final["val_nll"] == metrics.nll and history.final["val_ece"] == metrics.ece
    assert [math.isnan(v) for v in history["val_accuracy"]] == [True, True, False, False]
    assert history.seconds > 0 and (history.device, history.precision) == ("cpu", "fp32")
    with pytest.raises(KeyError, match="was not measured; there are"):
        history["accuracy"]


def test_the_measured_floor_is_the_expected_one_and_bounds_the_loss():
    history = train(mlp(), blobs(), mixup=ImageMixup(1.0), epochs=60)
    floors = torch.tensor(history["loss_floor"])
    expected, error = expected_loss_floor(1.0, blobs().y, 30), floors.std().item() / math.sqrt(60)
    assert floors.mean().item() == pytest.approx(expected, abs=4 * error)
    assert all(loss > floor for loss, floor in zip(history["loss"], history["loss_floor"]))


def test_label_smoothing_is_in_loss_and_floor():
    history = train(mlp(), blobs(), label_smoothing=0.3, lr=0.2, epochs=40)
    smooth = torch.tensor([0.8, 0.1, 0.1])
    assert history.final["loss_floor"] == pytest.approx(torch.special.entr(smooth).sum().item(), rel=1e-5)
    assert history.final["loss_floor"] < history.final["loss"] < history.final["loss_floor"] + 0.15


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_a_resumed_run_ends_bit_identical(stop, optimizer):
    class Noisy(MLP):
        def classify(self, h: Tensor) -> Tensor:
            return super().classify(F.dropout(h, 0.2, self.training))

    def build():
        with seeded(0):
            return Noisy([3, 8, 3])

    def run(model, **options):
        return train(model, blobs(), mixup=ImageMixup(1.0), optimizer=optimizer, lr=0.01, warmup=0.3, **options)

    whole, states = build(), []
    history = run(whole, on_epoch=lambda state: states.append(copy.deepcopy(state)))
    assert len(states) == 4
    again = build()
    resumed = run(again, resume=states[stop - 1])
    assert equal(whole, again)
    assert resumed.rows == history.rows


def test_alpha_follows_its_schedule():
    mixup, seen = ImageMixup(0.0), []
    train(mlp(), blobs(), mixup=mixup, alpha=lambda t: 1 - t, on_epoch=lambda state: seen.append(mixup.alpha))
    assert seen == [1.0, 0.75, 0.5, 0.25]


def test_a_mixup_left_in_eval_mode_mixes_all_the_same():
    history = train(mlp(), blobs(), mixup=ImageMixup(1.0).eval())
    assert history.final["loss_floor"] > 0


def test_features_may_be_several():
    """As for text: embed gives features and a mask, the mixup returns both and the mixture."""

    class Masked(MLP):
        def embed(self, x):
            return super().embed(x), torch.ones(len(x), 1)

        def classify(self, h, mask):
            return super().classify(h * mask)

        def forward(self, x):
            return self.classify(*self.embed(x))

    def mixup(h, mask, *, generator):
        mixed, mixture = ImageMixup(1.0)(h, generator=generator)
        return mixed, mask, mixture

    with seeded(0):
        model = Masked([3, 16, 3])
    train(model, blobs(), mixup=mixup, epochs=10)
    assert evaluate(model, blobs(seed=1)).accuracy > 0.95


def test_predict_restores_the_mode_and_does_not_depend_on_the_batch_size():
    model, x = mlp().train(), blobs(50).x
    logits = predict(model, x)
    assert model.training and not logits.requires_grad
    torch.testing.assert_close(logits, predict(model, x, batch_size=7))
    model.eval()
    predict(model, x)
    assert not model.training


def test_bf16_keeps_loss_and_weights_in_float32():
    model = mlp()
    history = train(model, blobs(), mixup=ImageMixup(1.0), precision="bf16", epochs=10)
    assert history.precision == "bf16"
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert evaluate(model, blobs(seed=1)).accuracy > 0.95


def test_gradients_are_clipped():
    model = mlp()
    before = copy.deepcopy(model)
    train(model, blobs(), epochs=1, batch_size=300, lr=1.0, schedule="constant", clip_norm=1e-3)
    steps = [(p - q).square().sum() for p, q in zip(model.parameters(), before.parameters())]
    assert sum(steps).sqrt().item() == pytest.approx(1.9e-3, rel=1e-3)


def test_progress_goes_to_stderr_and_only_if_wanted(capsys):
    train(mlp(), blobs())
    assert capsys.readouterr() == ("", "")
    train(mlp(), blobs(), progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "4/4" in err and "loss_floor" in err


def test_learning_rates():
    assert learning_rate("cosine", 0.0) == 1 and learning_rate("cosine", 0.5) == pytest.approx(0.5)
    assert [learning_rate("step", t) for t in (0.49, 0.5, 0.75)] == pytest.approx([1, 0.1, 0.01])
    assert learning_rate("linear", 0.25) == 0.75 and learning_rate("constant", 0.99) == 1
    assert learning_rate("cosine", 0.1, warmup=0.2) == 0.5
    for name in SCHEDULES:
        assert learning_rate(name, 0.2, warmup=0.2) == 1
        rates = [learning_rate(name, t / 1000, 0.2) for t in range(1000)]
        assert max(rates) == 1 and min(rates) >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs and batch_size must be at least 1"),
        ({"batch_size": 0}, "epochs and batch_size must be at least 1"),
        ({"evaluate_every": -1}, "evaluate_every at least 0"),
        ({"lr": 0.0}, "lr must be positive and finite"),
        ({"lr": math.nan}, "lr must be positive and finite"),
        ({"warmup": 1.0}, r"warmup in \[0, 1\)"),
        ({"optimizer": "adam"}, r"optimizer must be one of \['adamw', 'momentum', 'sgd'\], got 'adam'"),
        ({"schedule": "cos"}, "schedule must be one of"),
        ({"precision": "fp16"}, "precision must be"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_named(options, message):
    model = mlp()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=message):
        train(model, blobs(), **options)
    assert equal(model, before)


def test_data_that_cannot_be_trained_on():
    with pytest.raises(ValueError, match="turn texts into token ids first"):
        train(mlp(), Split(("a", "b"), torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="at least one, got 0, 0"):
        train(mlp(), blobs().take([]))


def test_a_run_that_diverges_stops_and_says_so():
    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch 1: lower lr .* or set clip_norm"):
        train(mlp(), Split(torch.full((8, 3), math.nan), torch.zeros(8, dtype=torch.int64)))
