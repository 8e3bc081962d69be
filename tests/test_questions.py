"""The offline corpora: natural, distinct, and split so that train and test share no wording."""

from collections import Counter

import pytest

from mixup_modalities.lab.questions import (
    NEWS_CLASSES,
    QUESTION_CLASSES,
    frame_tokens,
    news,
    parse,
    questions,
    wording,
)

CORPORA = {"questions": (questions(), QUESTION_CLASSES), "news": (news(), NEWS_CLASSES)}


@pytest.fixture(params=CORPORA)
def corpus(request):
    return CORPORA[request.param]


def test_there_is_enough_of_it_and_no_text_twice(corpus):
    texts, classes = corpus
    assert len(texts) >= 900
    assert len({t.text.lower() for t in texts}) == len(texts)
    for split in ("train", "test"):
        counts = Counter(t.label for t in texts if t.split == split)
        assert set(counts) == set(classes)
        assert max(counts.values()) < 1.5 * min(counts.values())


def test_questions_come_in_many_families_of_every_class():
    families = Counter(label for label, _ in {(t.label, t.family) for t in questions()})
    assert sum(families.values()) >= 60
    assert set(families) == set(QUESTION_CLASSES) and min(families.values()) >= 10
    assert len({t.frame for t in questions()}) >= 150


def test_a_family_has_one_class_and_is_in_one_split(corpus):
    texts, _ = corpus
    families = {t.family for t in texts}
    assert len({(t.family, t.label, t.split) for t in texts}) == len(families)


def test_train_and_test_share_no_wording(corpus):
    texts, _ = corpus
    parts = [[t for t in texts if t.split == split] for split in ("train", "test")]
    train, test = ({run for t in part for run in wording(t.frame)} for part in parts)
    assert not train & test
    # A frame too short for a run of three must not hide in a longer one either.
    for mine, others in ((parts[0], parts[1]), (parts[1], parts[0])):
        longer = {frame_tokens(t.frame) for t in others}
        for short in {frame_tokens(t.frame) for t in mine if len(frame_tokens(t.frame)) < 3}:
            n = len(short)
            assert not any(short == tokens[i : i + n] for tokens in longer for i in range(len(tokens) - n + 1))


def test_train_and_test_share_no_filler(corpus):
    texts, _ = corpus
    train, test = ({f.lower() for t in texts if t.split == split for f in t.fillers} for split in ("train", "test"))
    assert not train & test


def test_texts_are_clean(corpus):
    for t in corpus[0]:
        assert t.text[0].isupper() or not t.text[0].isalpha(), t.text
        assert t.text[-1] in "?.!", t.text
        assert "{" not in t.text and "  " not in t.text and ".." not in t.text, t.text


def test_questions_ask():
    for t in questions():
        assert t.text.endswith("?") or t.text.startswith("Name the "), t.text


def test_wording_sees_slots_and_punctuation():
    assert wording("Why do {}?") == {("why", "do", "{}")}
    assert wording("{0} wins. {0} is first") == {
        ("{}", "wins", "."),
        ("wins", ".", "{}"),
        (".", "{}", "is"),
        ("{}", "is", "first"),
    }
    assert wording("Whose {}?") == {("whose", "{}")}


def test_parse_pairs_and_products():
    single = parse("== A x train\nFrom {} to {} | here / there; now / then\n", ("A",))
    assert [t.text for t in single] == ["From here to there", "From now to then"]
    crossed = parse("== A x test\n{0} beat {1}. {0} won || foxes; owls || bees; ants\n", ("A",))
    assert [t.text for t in crossed] == [
        "Foxes beat bees. Foxes won",
        "Foxes beat ants. Foxes won",
        "Owls beat bees. Owls won",
        "Owls beat ants. Owls won",
    ]
    assert crossed[1].fillers == ("foxes", "ants") and crossed[1].split == "test"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("How tall is {}? | a tree", "line 1.*inside a family"),
        ("== A x train\nHow tall is it? | a tree", "line 2.*expected 'frame"),
        ("== A x train\nHow tall is {}?", "line 2.*expected 'frame"),
        ("== B x train", "line 1.*'== B x train'"),
        ("== A x dev", "line 1.*train|test"),
        ("== A x train\n== A x test", "line 2.*'x' was already defined"),
        ("== A x train\nFrom {} to {} | here", "line 2.*'here' does not fill the 2"),
        ("== A x train\nHow tall is {}? | a tree;; a house", "line 2.*does not fill"),
        ("== A x train\n{0} beat {1} || a; b", "line 2.*does not fill the 2"),
    ],
)
def test_parse_names_the_line(source, message):
    with pytest.raises(ValueError, match=message):
        parse(source, ("A",))
