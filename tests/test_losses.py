"""mixup_cross_entropy against torch's soft targets, and against one pixel after the other."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from oracles import GRANULARITIES, batch_like, random_mixture
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.testing import assert_close

from mixup_modalities import Mixture, mixup_cross_entropy

SEEDS = st.integers(0, 2**32)
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
SMOOTHING = st.sampled_from([0.0, 0.1, 1.0])
PLACES = st.sampled_from([(), (3,), (2, 3), (2, 1, 2)])  # none, a sequence, an image, a volume


def drawn(
    batch_size: int, num_classes: int, places: tuple, seed: int, dtype=torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and class weights."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (batch_size, *places), generator=g)
    weight = torch.rand(num_classes, generator=g, dtype=torch.float64) + 0.1
    return 3 * batch_like((batch_size, num_classes, *places), dtype, seed), labels, weight


def soft_targets(labels: Tensor, num_classes: int, mixture: Mixture) -> Tensor:
    """``(B, C, ...)``, by the package's own mixing of one-hot labels, which test_mixture checks against a loop."""
    return mixture.targets(F.one_hot(labels, num_classes).movedim(-1, 1).double())


def loop(logits, labels, mixture, label_smoothing, weight, ignore_index, reduction) -> Tensor:
    """The definition: each place of each row, its own label and its partner's, one after the other."""
    num_classes = logits.shape[1]
    weight = torch.ones(num_classes) if weight is None else weight
    flat, places = (
        logits.flatten(2) if logits.ndim > 2 else logits.unsqueeze(2),
        labels.flatten(1) if labels.ndim > 1 else labels[:, None],
    )
    losses, mass = torch.zeros(places.shape, dtype=torch.float64), 0.0
    for i, lam in enumerate(mixture.lam.expand(len(logits)).tolist()):
        for j in range(places.shape[1]):
            log_probs = flat[i, :, j].double().log_softmax(0)
            for share, row in ((lam, i), (1 - lam, int(mixture.partner[i]))):
                label = int(places[row, j])
                if label != ignore_index:
                    target = torch.full((num_classes,), label_smoothing / num_classes, dtype=torch.float64)
                    target[label] += 1 - label_smoothing
                    losses[i, j] -= share * (target * weight * log_probs).sum()
                    mass += share
    return {"none": losses.reshape(labels.shape), "sum": losses.sum(), "mean": losses.sum() / mass}[reduction]


@given(st.integers(1, 5), st.integers(1, 5), PLACES, GRANULARITIES, SMOOTHING, st.booleans(), REDUCTIONS, SEEDS)
def test_equals_torch_on_soft_targets(
    device, batch_size, num_classes, places, per, smoothing, weighted, reduction, seed
):
    logits, labels, weight = drawn(batch_size, num_classes, places, seed)
    mixture = random_mixture(batch_size, per, seed)
    keywords = {"label_smoothing": smoothing, "reduction": reduction, "weight": weight if weighted else None}
    expected = F.cross_entropy(logits, soft_targets(labels, num_classes, mixture), **keywords)
    keywords["weight"] = weight.to(device) if weighted else None
    dtype = torch.float32 if device.type == "mps" else torch.float64
    loss = mixup_cross_entropy(logits.to(device, dtype), labels.to(device), mixture.to(device), **keywords)
    assert loss.dtype == dtype
    assert_close(loss.cpu().double(), expected, rtol=1e-6, atol=1e-6)


@given(
    st.integers(1, 4),
    st.integers(2, 4),
    PLACES,
    GRANULARITIES,
    SMOOTHING,
    st.booleans(),
    REDUCTIONS,
    st.integers(-1, 1),
    SEEDS,
)
def test_equals_the_loop_with_ignored_labels(
    batch_size, num_classes, places, per, smoothing, weighted, reduction, ignore, seed
):
    logits, labels, weight = drawn(batch_size, num_classes, places, seed)
    ignore_index = -100 if ignore == -1 else ignore  # outside the classes, or one of them
    if ignore == -1:
        labels[torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.4] = ignore_index
    mixture = random_mixture(batch_size, per, seed)
    settings = smoothing, weight if weighted else None, ignore_index, reduction
    expected = loop(logits, labels, mixture, *settings)
    names = "label_smoothing", "weight", "ignore_index", "reduction"
    loss = mixup_cross_entropy(logits, labels, mixture, **dict(zip(names, settings)))
    assert_close(loss, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


@given(st.integers(1, 5), st.integers(2, 5), PLACES, SMOOTHING, st.booleans(), REDUCTIONS, SEEDS)
def test_identity_is_torch_on_class_indices(batch_size, num_classes, places, smoothing, ignored, reduction, seed):
    logits, labels, weight = drawn(batch_size, num_classes, places, seed)
    if ignored:
        labels[0] = -100
    keywords = {"label_smoothing": smoothing, "reduction": reduction}
    if reduction != "mean":  # weights enter torch's mean of index targets, not of soft targets
        keywords["weight"] = weight
    expected = F.cross_entropy(logits, labels, **keywords)
    loss = mixup_cross_entropy(logits, labels, Mixture.identity(batch_size), **keywords)
    assert_close(loss, expected, equal_nan=True)


@pytest.mark.parametrize("places", [(), (2, 2)], ids=["classes", "segmentation"])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_gradients(per, places):
    logits, labels, weight = drawn(4, 3, places, 1)
    labels.flatten()[0] = -100
    mixture = random_mixture(4, per, 2)

    def loss(logits):
        return mixup_cross_entropy(logits, labels, mixture, label_smoothing=0.1, weight=weight)

    assert torch.autograd.gradcheck(loss, logits.requires_grad_(), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(loss, logits)


def test_gradient_is_that_of_the_soft_targets():
    logits, labels, _ = drawn(5, 4, (), 3)
    mixture = random_mixture(5, "sample", 3)
    losses = (
        lambda f: mixup_cross_entropy(f, labels, mixture),
        lambda f: F.cross_entropy(f, soft_targets(labels, 4, mixture)),
    )
    assert_close(*(torch.func.grad(loss)(logits) for loss in losses))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_half_precision_logits_give_a_float32_loss(device, dtype, per):
    logits, labels, _ = drawn(4, 3, (), 2, torch.float32)
    logits, labels, mixture = logits.to(device, dtype), labels.to(device), random_mixture(4, per, 2).to(device)
    loss = mixup_cross_entropy(logits.requires_grad_(), labels, mixture)
    assert loss.dtype == torch.float32
    assert_close(loss, mixup_cross_entropy(logits.float(), labels, mixture))
    loss.backward()
    assert logits.grad.dtype == dtype


def test_under_autocast_the_loss_stays_float32(device):
    logits, labels, _ = drawn(4, 3, (), 2, torch.float32)
    logits, labels, mixture = logits.to(device), labels.to(device), random_mixture(4, "batch", 2).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = mixup_cross_entropy(logits, labels, mixture)
    assert_close(loss, mixup_cross_entropy(logits, labels, mixture))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32], ids=str)
def test_labels_of_any_integer_type(dtype):
    logits, labels, _ = drawn(4, 3, (), 2)
    mixture = random_mixture(4, "sample", 2)
    assert_close(mixup_cross_entropy(logits, labels.to(dtype), mixture), mixup_cross_entropy(logits, labels, mixture))


def test_everything_ignored_is_as_in_torch():
    logits, labels = torch.randn(3, 2, requires_grad=True), torch.full((3,), -100)
    mixture = Mixture(torch.tensor(0.3), torch.tensor([1, 2, 0]))
    assert F.cross_entropy(logits, labels).isnan()
    assert mixup_cross_entropy(logits, labels, mixture).isnan()
    loss = mixup_cross_entropy(logits, labels, mixture, reduction="sum")
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_no_caller_tensor_is_changed():
    logits, labels, weight = drawn(4, 3, (2,), 2)
    labels[0] = -100
    before = logits.clone(), labels.clone(), weight.clone()
    mixup_cross_entropy(logits, labels, random_mixture(4, "sample", 1), weight=weight, label_smoothing=0.2)
    assert all(torch.equal(*pair) for pair in zip(before, (logits, labels, weight)))


def test_vmap_over_models():
    """Several seeds side by side: one batch, many sets of parameters, the loss and its gradient for each."""
    x, labels, mixture = torch.randn(6, 5), torch.tensor([0, 1, 2, 2, 1, -100]), random_mixture(6, "sample", 1)
    models = [nn.Linear(5, 3) for _ in range(4)]
    parameters, _ = torch.func.stack_module_state(models)

    def loss(parameters, x):
        logits = torch.func.functional_call(models[0], parameters, (mixture.mix(x),))
        return mixup_cross_entropy(logits, labels, mixture, label_smoothing=0.1)

    gradients, losses = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(0, None))(parameters, x)
    for i, model in enumerate(models):
        model.zero_grad()
        alone = mixup_cross_entropy(model(mixture.mix(x)), labels, mixture, label_smoothing=0.1)
        alone.backward()
        assert_close(losses[i], alone)
        assert_close(gradients["weight"][i], model.weight.grad)


def test_vmap_over_batches_with_their_own_labels():
    logits, labels = torch.randn(3, 4, 5), torch.randint(5, (3, 4))
    mixture = random_mixture(4, "batch", 1)
    losses = torch.func.vmap(lambda f, y: mixup_cross_entropy(f, y, mixture))(logits, labels)
    assert_close(losses, torch.stack([mixup_cross_entropy(f, y, mixture) for f, y in zip(logits, labels)]))


@pytest.mark.parametrize("places", [(), (2, 2)], ids=["classes", "segmentation"])
def test_compiles_without_a_graph_break(device, places):
    logits, labels, weight = drawn(4, 3, places, 1, torch.float32)
    logits, labels, weight = logits.to(device).requires_grad_(), labels.to(device), weight.float().to(device)
    mixture = random_mixture(4, "sample", 2).to(device)
    torch._dynamo.reset()

    def loss(logits, labels, mixture):
        return mixup_cross_entropy(logits, labels, mixture, label_smoothing=0.1, weight=weight)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    results = [f(logits, labels, mixture) for f in (compiled, loss)]
    assert_close(*results)
    assert_close(*(torch.autograd.grad(result, logits)[0] for result in results))


@pytest.mark.parametrize("places", [(), (2, 2)], ids=["classes", "segmentation"])
def test_nothing_waits_for_the_device(places):
    with FakeTensorMode():
        logits = torch.empty(4, 3, *places, device="cuda")
        labels, weight = torch.empty(4, *places, dtype=torch.long, device="cuda"), torch.empty(3, device="cuda")
        mixture = Mixture.identity(4, "cuda")
        for reduction in ("mean", "sum", "none"):
            keywords = {"label_smoothing": 0.1, "weight": weight, "reduction": reduction}
            assert mixup_cross_entropy(logits, labels, mixture, **keywords).device.type == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the fake one above stands in for it")
def test_nothing_waits_for_a_real_gpu():
    logits = torch.randn(4, 3, device="cuda", requires_grad=True)
    labels, weight, mixture = (
        torch.zeros(4, dtype=torch.long, device="cuda"),
        torch.ones(3, device="cuda"),
        Mixture.identity(4, "cuda"),
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixup_cross_entropy(logits, labels, mixture, label_smoothing=0.1, weight=weight).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


LOGITS, LABELS = torch.zeros(2, 3), torch.tensor([0, 2])
BAD = {
    "logits integer": ({"logits": LOGITS.long()}, TypeError, r"logits: expected a floating tensor .*got torch\.int64"),
    "logits a list": (
        {"logits": [[0.0, 1.0]] * 2},
        TypeError,
        r"logits: expected a tensor of shape \(2, \.\.\.\), got list",
    ),
    "logits flat": ({"logits": LOGITS[:, 0]}, ValueError, r"logits: expected shape \(2, C, \.\.\.\), got \(2,\)"),
    "logits of another batch": (
        {"logits": torch.zeros(3, 3)},
        ValueError,
        r"logits: expected shape \(2, \.\.\.\).*got \(3, 3\)",
    ),
    "logits elsewhere": ({"logits": LOGITS.to("meta")}, ValueError, r"logits is on meta but the mixture is on cpu"),
    "labels floating": (
        {"labels": LABELS.float()},
        TypeError,
        r"labels: expected integer class indices, got torch\.float32",
    ),
    "labels one-hot": (
        {"labels": F.one_hot(LABELS)},
        TypeError,
        r"labels: expected class indices with 1 axes, got integers of shape \(2, 3\).*argmax",
    ),
    "labels boolean": (
        {"labels": LABELS.bool()},
        TypeError,
        r"labels: expected integer class indices, got torch\.bool",
    ),
    "labels soft": (
        {"labels": torch.eye(3)[:2]},
        TypeError,
        r"labels: expected integer .*torch\.float32.*mixture\.loss",
    ),
    "labels too high": (
        {"labels": LABELS + 1},
        ValueError,
        r"labels: expected class indices from 0 to 2, got values from 1 to 3",
    ),
    "labels negative": (
        {"labels": LABELS - 1},
        ValueError,
        r"labels: expected class indices from 0 to 2, got values from -1 to 1",
    ),
    "labels a list": (
        {"labels": [0, 2]},
        TypeError,
        r"labels: expected a tensor of shape \(2, \.\.\.\), got list \[0, 2\]",
    ),
    "labels of another batch": (
        {"labels": LABELS[:1]},
        ValueError,
        r"labels: expected shape \(2, \.\.\.\).*got \(1,\)",
    ),
    "labels elsewhere": ({"labels": LABELS.to("meta")}, ValueError, r"labels is on meta but the mixture is on cpu"),
    "labels of another size": (
        {"logits": torch.zeros(2, 3, 4, 4), "labels": torch.zeros(2, 4, 5).long()},
        ValueError,
        r"labels: expected shape \(2, 4, 4\) to fit logits, got \(2, 4, 5\)",
    ),
    "arguments in another order": (
        {"labels": Mixture.identity(2), "mixture": LABELS},
        TypeError,
        r"mixture: expected the Mixture that made the batch, got Tensor",
    ),
    "smoothing missing": (
        {"label_smoothing": None},
        TypeError,
        r"label_smoothing: expected a number in \[0, 1\], got NoneType None",
    ),
    "ignore_index fractional": ({"ignore_index": 1.5}, TypeError, r"ignore_index: expected an integer, got float 1\.5"),
    "weight elsewhere": (
        {"weight": torch.ones(3, device="meta")},
        ValueError,
        r"weight is on meta but logits are on cpu",
    ),
    "smoothing above 1": (
        {"label_smoothing": 1.5},
        ValueError,
        r"label_smoothing: expected a number in \[0, 1\], got 1\.5",
    ),
    "smoothing NaN": (
        {"label_smoothing": math.nan},
        ValueError,
        r"label_smoothing: expected a number in \[0, 1\], got nan",
    ),
    "weight of another length": (
        {"weight": torch.ones(4)},
        ValueError,
        r"weight: expected a tensor of shape \(3,\).*got \(4,\)",
    ),
    "weight a list": (
        {"weight": [1, 1, 1]},
        ValueError,
        r"weight: expected a tensor of shape \(3,\).*got list \[1, 1, 1\]",
    ),
    "reduction": (
        {"reduction": "batchmean"},
        ValueError,
        r"reduction: expected one of 'mean', 'sum', 'none', got 'batchmean'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    change, error, message = BAD[case]
    arguments = {"logits": LOGITS, "labels": LABELS, "mixture": Mixture.identity(2)} | change
    with pytest.raises(error, match=f"(?s)^{message}"):
        mixup_cross_entropy(**arguments)
