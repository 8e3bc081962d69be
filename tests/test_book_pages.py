"""The pages of the book: they are in the contents, their links and citations resolve, their code runs."""

import contextlib
import importlib.util
import io
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from mixup_modalities.lab import ledger

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
PAGES = sorted(BOOK.glob("*.md"))
READ_ELSEWHERE = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(r"^(```+|~~~+|:::+)(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
OUTSIDE = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", re.IGNORECASE)


def name_of(path: Path) -> str:
    return path.name


def prose_of(path: Path) -> str:
    """The text of a page without code: blocks of backticks and inline code; directives of colons stay."""
    text = re.sub(r"^(```+)(?!\{).*?^\1\s*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]+`(?!\()", "", text)


def contents() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def anchors_of(path: Path) -> set[str]:
    """What a link may name after #: explicit targets and headings as MyST writes them."""
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"^\(([\w-]+)\)=\s*$", text, re.MULTILINE)
    headings = re.findall(r"^#{1,3} (.+)$", re.sub(FENCE, "", text), re.MULTILINE)
    return {*targets, *(re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings)}


def faults_of_links(path: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for target in LINK.findall(prose_of(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        if not goal.exists():
            found.append(f"{target}: no such file")
        elif anchor and goal.suffix == ".md" and anchor not in anchors_of(goal):
            found.append(f"{target}: no such heading")
    return found


def test_every_page_is_in_the_contents_and_every_entry_exists():
    entries = contents()
    assert len(entries) == len(set(entries))
    missing = [e for e in entries if not any((ROOT / e).with_suffix(s).exists() for s in (".md", ".ipynb"))]
    assert missing == []
    assert {page.relative_to(ROOT).with_suffix("").as_posix() for page in PAGES} <= set(entries)


@pytest.mark.parametrize("path", [*PAGES, *READ_ELSEWHERE], ids=name_of)
def test_links_lead_somewhere(path):
    assert faults_of_links(path) == []


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n[a](other.md) [b](page.md#one) [c](page.md#two) `[d](nowhere.md)` [e](https://example.org)\n"
    )
    assert faults_of_links(page) == ["other.md: no such file", "page.md#two: no such heading"]


def test_citations_are_in_the_bibliography_and_keys_are_unique():
    keys = re.findall(r"^@\w+\{([^,\s]+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(keys) == len(set(keys)) > 0
    sources = [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for path in sources:
        cited = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text(encoding="utf-8"))
        unknown = {key.strip() for group in cited for key in group.split(",")} - set(keys)
        assert unknown == set(), path.name


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pictures_have_alt_text_and_exist(path):
    text = path.read_text(encoding="utf-8")
    for picture, options in re.findall(r"^`{3,}\{(?:image|figure)\} (\S+)\n((?::.*\n)*)", text, re.MULTILINE):
        assert (path.parent / picture).is_file(), picture
        assert re.search(r"^:alt: \S.{15,}", options, re.MULTILINE), f"{picture} has no alt text"
    assert re.findall(r"!\[\]\(", text) == []


@pytest.mark.parametrize("path", [*PAGES, *BOOK.glob("_static/*.css"), *BOOK.glob("_static/*.js")], ids=name_of)
def test_nothing_is_loaded_from_elsewhere(path):
    loads = re.sub(r"<a\s[^>]*>", "", path.read_text(encoding="utf-8"))  # a link is followed, not loaded
    assert OUTSIDE.findall(loads) == []


def run_blocks(path: Path) -> str:
    """Runs the Python blocks of a page one after the other in one namespace and returns what they print."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks, f"{path.name} has no Python block"
    namespace: dict = {"__name__": "page"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number, block in enumerate(blocks):
            exec(compile(block, f"{path.name}, block {number}", "exec"), namespace)
    return printed.getvalue()


def test_the_code_of_the_whole_package_page_runs():
    printed = run_blocks(BOOK / "all_of_mixup_modalities.md")
    assert "lam and 1 - lam swapped" in printed
    assert "got uint8 but no mean and std" in printed


@pytest.mark.parametrize("path", [BOOK / "index.md", ROOT / "README.md"], ids=name_of)
def test_the_six_lines_train_a_model(path):
    block = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
    assert len([line for line in block.splitlines() if line.strip()]) == 6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
        before = model[1].weight.detach().clone()
        loader = [(torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 3, 0]))]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        page = {"model": model, "loader": loader}
        exec(compile(block, path.name, "exec"), page)
        page["loss"].backward()
        optimizer.step()
    assert not torch.equal(model[1].weight, before)


def test_the_three_loops_of_the_landing_page_run():
    from transformers import BertConfig, BertForSequenceClassification

    text = (BOOK / "index.md").read_text(encoding="utf-8")
    images, sound, words = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    page: dict = {}
    labels = torch.tensor([0, 1, 2, 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flat = [torch.nn.Flatten(), torch.nn.Linear(12, 3)]
        loaders = {images: (torch.nn.Sequential(*flat), [torch.rand(4, 3, 2, 2)])}
        flat = [torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(40, 3)]
        loaders[sound] = (torch.nn.Sequential(*flat), [torch.randn(4, 16_000)])
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        bert = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=3, **sizes))
        loaders[words] = (bert, [torch.randint(20, (4, 6)), torch.ones(4, 6, dtype=torch.int64)])
        for block, (model, inputs) in loaders.items():
            page |= {"model": model, "loader": [(*inputs, labels)]}
            exec(compile(block, "index.md", "exec"), page)
            page.pop("loss").backward()
            assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_data_cards_tell_the_counts_of_the_data():
    from mixup_modalities.lab.datasets import find_source, load, names

    text = (BOOK / "data_cards.md").read_text(encoding="utf-8")
    cards = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    sample = load("mnist", sample=True)
    for split, examples in sample.splits.items():
        word = {"train": "training"}.get(split, split)
        assert f"{len(examples):,} {word}" in cards["Offline digits"]
    assert sample.card.licence in cards["Offline digits"]
    headings = "\n".join(cards)
    missing = [title for name in names() if (title := find_source(name).title.partition(",")[0]) not in headings]
    assert missing == [], "a data set without a card"


def results_table():
    spec = importlib.util.spec_from_file_location("results_table", BOOK / "_tools" / "results_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", results_table().PAGES, ids=name_of)
def test_a_page_has_the_results_of_the_ledger(page):
    text = page.read_text(encoding="utf-8")
    assert text == results_table().updated(text, ROOT / "results"), "run python book/_tools/results_table.py"


def test_the_table_of_results_pairs_the_runs_by_seed(tmp_path):
    title, without, mixed = results_table().PAIRS[0]
    for recipe, seed, accuracy in [
        (without, 0, 0.5),
        (without, 1, 0.7),
        (mixed, 1, 0.8),
        (mixed, 0, 0.6),
        (mixed, 9, 0),
    ]:
        row = {"recipe": recipe, "seed": seed, "accuracy": accuracy, "nll": 1 - accuracy, "dataset": "set"}
        row |= {"data": "real", "lossy": True, "dataset_sha256": "0", "epochs": 1, "device": "cpu", "precision": "fp32"}
        ledger.append(row | {"seconds": 1.0, "commit": "abcdefg", "versions": "torch"}, tmp_path / "one.csv")
    section = results_table().section(tmp_path)
    assert f"| {title}, lossy copy | 0.600 |".replace(" %", "&nbsp;%") in section
    assert "means over 2 seeds" in section and "A lossy copy differs from the official files" in section
    assert "| +0.100 [+0.100,&nbsp;+0.100] |" in section
    assert "commits abcdefg" in section
    assert results_table().section(tmp_path / "nothing") == "No run has been recorded yet."


def test_every_pair_of_the_table_is_two_recipes():
    from mixup_modalities.lab.recipes import find_recipe

    for _, without, mixed in results_table().PAIRS:
        assert (find_recipe(without).alpha, find_recipe(mixed).dataset) == (0, find_recipe(without).dataset)


def test_the_api_page_names_everything_public():
    import mixup_modalities

    text = (BOOK / "api.md").read_text(encoding="utf-8")
    assert [name for name in mixup_modalities.__all__ if not re.search(rf":: {name}$", text, re.MULTILINE)] == []


def test_plotly_is_cut_to_what_is_drawn_and_refuses_what_it_does_not_know(monkeypatch):
    import plotly

    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    from mixup_book import plotly_bundle

    source = Path(plotly.__file__).parent.joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    cut = plotly_bundle.cut(source, {"heatmap", "bar", "image"})
    assert len(cut) < len(source) / 3
    for kind in ("heatmap", "bar", "image", "scatter"):
        assert f'moduleType:"trace",name:"{kind}"' in cut
    assert 'moduleType:"trace",name:"surface"' not in cut
    for text, kinds in [("var a=1;", {"bar"}), (source, {"no such trace"}), (source[:-9000], {"bar"})]:
        with pytest.raises(plotly_bundle.UnknownForm):
            plotly_bundle.cut(text, kinds)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mixup_book"]:
        del sys.modules[name]
