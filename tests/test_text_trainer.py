"""The Trainer recipe as the chapter shows it: read from the notebook, executed, and held against a plain loop."""

from pathlib import Path

import nbformat
import pytest
import torch
import transformers
from torch.nn import functional as F
from torch.testing import assert_close

from mixup_modalities import EmbeddingMixup, mixup_cross_entropy

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "06_train_text_classifiers.ipynb"
VOCABULARY, CLASSES, ROWS = 40, 3, 24


@pytest.fixture(scope="module")
def trainer_class():
    cell = next(cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.id == "trainer")
    names = {"torch": torch, "mixup_cross_entropy": mixup_cross_entropy}
    exec(cell.source, names)
    return names["MixupTrainer"]


def make_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.BertForSequenceClassification(
            transformers.BertConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=16,
                num_labels=CLASSES,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )


def make_rows():
    generator = torch.Generator().manual_seed(1)
    rows = []
    for i in range(ROWS):
        length = 3 + i % 4
        ids = torch.zeros(6, dtype=torch.int64)
        ids[:length] = torch.randint(1, VOCABULARY, (length,), generator=generator)
        rows.append({"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": i % CLASSES})
    return rows


def make_trainer(trainer_class, folder, model, mixup, **arguments):
    settings = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    args = transformers.TrainingArguments(str(folder), **settings | arguments)
    return trainer_class(model=model, args=args, train_dataset=make_rows(), eval_dataset=make_rows(), mixup=mixup)


def stacked(rows):
    ids, mask = (torch.stack([row[key] for row in rows]) for key in ("input_ids", "attention_mask"))
    return ids, mask, torch.tensor([row["labels"] for row in rows])


def seen_by(model):
    """A list that takes the keyword arguments of every call of the model from now on."""
    calls = []
    model.register_forward_pre_hook(lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True)
    return calls


def test_a_training_batch_is_mixed_row_by_row(trainer_class, tmp_path):
    """Embeddings, mask and loss against a loop over rows and positions that knows nothing of the package."""
    model = make_model().train()
    trainer = make_trainer(trainer_class, tmp_path, model, EmbeddingMixup(1.0, per="sample"), seed=5)
    ids, mask, labels = stacked(make_rows()[:8])
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    calls = seen_by(model)
    loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}  # the caller's batch is whole

    drawn = EmbeddingMixup(1.0, per="sample").draw(8, ids.device, torch.Generator().manual_seed(5))
    lam, partner = drawn.lam.tolist(), drawn.partner.tolist()
    assert sum(0.05 < value < 0.95 for value in lam) > 3 and partner != list(range(8))
    table, (call,) = model.get_input_embeddings().weight, calls
    assert "input_ids" not in call
    expected = 0.0
    for i, j in enumerate(partner):
        for t in range(ids.shape[1]):
            mixed = lam[i] * table[ids[i, t]] * mask[i, t] + (1 - lam[i]) * table[ids[j, t]] * mask[j, t]
            assert_close(call["inputs_embeds"][i, t], mixed, atol=1e-6, rtol=1e-5)
            assert int(call["attention_mask"][i, t]) == max(int(mask[i, t]), int(mask[j, t]))
        row = outputs.logits[i : i + 1]
        own, other = (F.cross_entropy(row, labels[k : k + 1]) for k in (i, j))
        expected = expected + (lam[i] * own + (1 - lam[i]) * other) / 8
    assert_close(loss, expected, atol=1e-6, rtol=1e-5)


def test_one_step_equals_the_plain_loop(trainer_class, tmp_path):
    trained = make_model()
    trainer = make_trainer(
        trainer_class, tmp_path, trained, EmbeddingMixup(1.0), per_device_train_batch_size=ROWS, optim="sgd", seed=3
    )
    order = []
    compute_loss = trainer.compute_loss

    def watch(model, inputs, *args, **kwargs):
        order.append(inputs["input_ids"].clone())
        return compute_loss(model, inputs, *args, **kwargs)

    trainer.compute_loss = watch
    trainer.train()
    assert len(order) == 1

    model, rows = make_model().train(), make_rows()
    at = [next(i for i, row in enumerate(rows) if torch.equal(row["input_ids"], ids)) for ids in order[0]]
    ids, mask, labels = stacked([rows[i] for i in at])
    embeds = model.get_input_embeddings()(ids)
    embeds, mask, mixture = EmbeddingMixup(1.0)(embeds, mask, generator=torch.Generator().manual_seed(3))
    mixup_cross_entropy(model(inputs_embeds=embeds, attention_mask=mask).logits, labels, mixture).backward()
    with torch.no_grad():
        for mine, other in zip(model.parameters(), trained.parameters()):
            if mine.grad is not None:
                assert_close(other, mine - 1e-2 * mine.grad, atol=1e-6, rtol=1e-5)


def test_evaluation_is_not_mixed(trainer_class, tmp_path):
    model = make_model()
    trainer = make_trainer(trainer_class, tmp_path, model, EmbeddingMixup(1.0))
    ids, mask, labels = stacked(make_rows())
    with torch.no_grad():
        logits = model.eval()(ids, attention_mask=mask).logits
    result = trainer.predict(make_rows())
    assert_close(torch.from_numpy(result.predictions), logits, atol=1e-5, rtol=1e-5)
    expected = F.cross_entropy(logits, labels).item()
    assert result.metrics["test_loss"] == pytest.approx(expected, abs=1e-4)


def test_accumulated_gradients_are_those_of_the_mean(trainer_class, tmp_path):
    """Three batches of eight, each step a third: with mixing off, the same as one batch of all rows."""
    models = []
    for arguments in (
        {"per_device_train_batch_size": ROWS},
        {"per_device_train_batch_size": ROWS // 3, "gradient_accumulation_steps": 3},
    ):
        models.append(make_model())
        make_trainer(trainer_class, tmp_path, models[-1], EmbeddingMixup(0.0), optim="sgd", **arguments).train()
    for one, other in zip(models[0].parameters(), models[1].parameters()):
        assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_seed_repeats_the_run_and_another_mixes_otherwise(trainer_class, tmp_path):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(7)
        model = make_model()
        make_trainer(trainer_class, tmp_path, model, EmbeddingMixup(1.0), seed=seed).train()
        weights.append(torch.cat([p.detach().ravel() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.allclose(weights[0], weights[2], atol=1e-4)


def test_nothing_is_left_in_the_folder(trainer_class, tmp_path):
    make_trainer(trainer_class, tmp_path, make_model(), EmbeddingMixup(1.0)).train()
    assert list(tmp_path.iterdir()) == []
