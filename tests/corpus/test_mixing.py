"""Mixing: budgets are met and never exceeded, sources get their shares, and the corpus says where all came from."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firstwords.budget import Budget
from firstwords.corpus.mixing import make_corpus
from firstwords.corpus.shares import quotas, say_amount
from firstwords.corpus.sources import ResolvedSource, resolve_sources
from firstwords.errors import FirstwordsError
from firstwords.settings import CorpusSettings

CARD_A_SHA256 = "9ce10477c1bc5c4c96e2caf7051ca54382a1750861a370f426f92938aa317280"
Texts = dict[str, list[str]]


def write_sources(folder: Path, texts: Texts) -> None:
    for name, documents in texts.items():
        (folder / f"{name}.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")


class Mixed:
    """A corpus made from files in a new folder, and what a test asks of it."""

    def __init__(self, folder: Path, recipe: dict[str, Any], *, seed: int = 1, dev_file: Path | None = None) -> None:
        self.settings = CorpusSettings.model_validate(recipe)
        self.sources = resolve_sources(self.settings, [folder], folder / "cache")
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.report = make_corpus(self.settings, self.sources, dev_file, seed, self.folder)

    def bytes_of(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def documents(self, name: str) -> list[tuple[int, str]]:
        """(source number, text) of each document of train or dev, in the order of the file."""
        data = self.bytes_of(f"{name}.txt")
        index = np.load(self.folder / f"{name}.index.npy")
        assert index.dtype == np.int64
        return [(int(source), data[start:end].decode()) for start, end, source in index]

    def size(self, name: str) -> int:
        if self.settings.budget.unit == "words":
            return len(self.bytes_of(f"{name}.txt").decode().split())
        return len(self.bytes_of(f"{name}.txt"))

    def dropped(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.bytes_of("dropped.jsonl").splitlines()]


def recipe_of(names: Iterable[str], budget: str, dev_budget: str, **more: Any) -> dict[str, Any]:
    return {"sources": {name: {} for name in names}, "budget": budget, "dev-budget": dev_budget} | more


def document_size(text: str, unit: str) -> int:
    return len(text.split()) if unit == "words" else len(text.encode()) + 2


WORDS = st.sampled_from(["oak", "a", "élan", "the", "walking", "数", "trees.\nThe"])
DOCUMENT_TEXTS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)


@st.composite
def mixes(draw: st.DrawFn) -> tuple[Texts, dict[str, Any]]:
    """Two to four sources and a recipe whose budgets they can meet."""
    names = ["alpha", "beta", "gamma", "delta"][: draw(st.integers(2, 4))]
    unit, kind = draw(st.sampled_from([("B", "bytes"), ("words", "words")]))
    weights = {name: draw(st.sampled_from([1, 1, 2, 0.5])) for name in names}
    texts = {name: draw(st.lists(DOCUMENT_TEXTS, min_size=30, max_size=50)) for name in names}
    # No text twice, so that the sizes are known.
    texts = {name: [f"{name}{i} {text}" for i, text in enumerate(documents)] for name, documents in texts.items()}
    part = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    sizes = {name: [document_size(text, kind) for text in documents] for name, documents in texts.items()}
    reachable = min(sum(sizes[name]) / part[name] for name in names)
    smallest = max(max(sizes[name]) / part[name] for name in names)  # every document fits into its share
    dev = int(smallest) + 1 + int(reachable * draw(st.floats(0, 0.1)))
    budget = int(smallest) + 1 + int(reachable * draw(st.floats(0, 0.3)))
    assume(dev + budget + 2 * smallest < reachable)
    recipe = {
        "sources": {name: {"weight": weight} for name, weight in weights.items()},
        "budget": f"{budget} {unit}",
        "dev-budget": f"{dev} {unit}",
        "order": draw(st.sampled_from(["shuffled", "source"])),
    }
    return texts, recipe


@given(mix=mixes())
@settings(max_examples=60)
def test_budgets_and_shares_are_met_to_within_a_document(mix: tuple[Texts, dict[str, Any]]) -> None:
    texts, recipe = mix
    with tempfile.TemporaryDirectory() as name:
        write_sources(Path(name), texts)
        mixed = Mixed(Path(name), recipe)
        unit = mixed.settings.budget.unit
        weights = [source.weight for source in mixed.settings.sources.values()]
        largest = max(document_size(text, unit) for documents in texts.values() for text in documents)
        for part, budget in (("train", mixed.settings.budget), ("dev", mixed.settings.dev_budget)):
            assert budget is not None
            assert budget.amount - largest < mixed.size(part) <= budget.amount
            used = [0.0] * len(weights)
            for source, text in mixed.documents(part):  # the sources stay level all along the file
                used[source] += document_size(text, unit) / weights[source]
                assert max(used) - min(used) <= largest / min(weights)


@given(mix=mixes())
@settings(max_examples=30)
def test_dev_and_training_text_share_no_document_and_each_is_whole(mix: tuple[Texts, dict[str, Any]]) -> None:
    texts, recipe = mix
    names = list(texts)
    texts[names[1]][:3] = texts[names[0]][:3]  # the same texts in two sources
    texts[names[0]].append(texts[names[0]][-1])  # and twice in one
    with tempfile.TemporaryDirectory() as name:
        write_sources(Path(name), texts)
        mixed = Mixed(Path(name), recipe | {"short-sources": "accept"})
        train, dev = ([text for _, text in mixed.documents(part)] for part in ("train", "dev"))
        assert len({*train, *dev}) == len(train) + len(dev)
        assert {*train, *dev} <= set(itertools.chain(*texts.values()))
        for part, documents in (("train", train), ("dev", dev)):
            assert mixed.bytes_of(f"{part}.txt").decode() == "".join(text + "\n\n" for text in documents)


@given(mix=mixes(), data=st.data())
@settings(max_examples=30)
def test_the_seed_decides_and_not_the_order_of_files(mix: tuple[Texts, dict[str, Any]], data: st.DataObject) -> None:
    texts, recipe = mix
    recipe = recipe | {"order": "shuffled"}
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        for name, documents in texts.items():
            for folder in (Path(first), Path(second)):
                (folder / name).mkdir()
                cut = data.draw(st.integers(1, len(documents) - 1))
                parts = data.draw(st.permutations([documents[:cut], documents[cut:]]))
                for number, part in enumerate(parts):
                    (folder / name / f"{number}.txt").write_text("\n\n".join(part))
        one, other = Mixed(Path(first), recipe), Mixed(Path(second), recipe)
        for file in ("train.txt", "dev.txt", "train.index.npy", "dev.index.npy"):
            assert one.bytes_of(file) == other.bytes_of(file)


TREES = {
    "alpha": [f"Oak number {i} is a tall tree." for i in range(200)],
    "beta": [f"Did you see elm {i}?\nNo." for i in range(200)],
}


def test_other_seeds_choose_other_documents(tmp_path: Path) -> None:
    write_sources(tmp_path, TREES)
    recipe = recipe_of(TREES, "2kB", "300B")
    assert Mixed(tmp_path, recipe).bytes_of("train.txt") != Mixed(tmp_path, recipe, seed=2).bytes_of("train.txt")


def test_the_dev_text_stays_when_the_budget_grows(tmp_path: Path) -> None:
    write_sources(tmp_path, TREES)
    small, large = (Mixed(tmp_path, recipe_of(TREES, budget, "500B")) for budget in ("1kB", "6kB"))
    assert small.bytes_of("dev.txt") == large.bytes_of("dev.txt")
    assert large.bytes_of("train.txt").startswith(small.bytes_of("train.txt"))


def test_in_source_order_the_first_documents_are_taken_and_no_more_is_read(tmp_path: Path) -> None:
    write_sources(tmp_path, TREES)
    mixed = Mixed(tmp_path, recipe_of(TREES, "600B", "60B", order="source"))
    taken = [text for source, text in mixed.documents("dev") + mixed.documents("train") if source == 0]
    assert taken == TREES["alpha"][: len(taken)]
    source = mixed.report["sources"]["alpha"]
    assert not source["read_to_end"] and source["read"]["documents"] < 20


def test_documents_too_large_for_the_dev_share_go_to_the_training_text(tmp_path: Path) -> None:
    texts = {"alpha": ["The long tale " * 20 + str(i) for i in range(4)] + [f"Short {i}." for i in range(9)]}
    write_sources(tmp_path, texts)
    mixed = Mixed(tmp_path, recipe_of(texts, "1kB", "40B", order="source"))
    assert [text[:5] for _, text in mixed.documents("dev")] == ["Short"] * 4
    assert [text[:5] for _, text in mixed.documents("train")][:3] == ["The l"] * 3


def test_a_short_source_is_an_error_and_its_advice_works(tmp_path: Path) -> None:
    texts = {"alpha": TREES["alpha"][:20], "beta": TREES["beta"]}
    write_sources(tmp_path, texts)
    with pytest.raises(FirstwordsError) as caught:
        Mixed(tmp_path, recipe_of(texts, "4kB", "200B"))
    error = caught.value
    assert "the budget of 4kB cannot be met: alpha has 5" in error.what and "of its share of 2 kB, 1.4" in error.what
    assert error.where == "corpus.budget"
    assert error.do and error.do.startswith("lower it to ") and 'short-sources = "redistribute"' in error.do
    possible = error.do.removeprefix("lower it to ").split(",")[0]
    mixed = Mixed(tmp_path, recipe_of(texts, possible, "200B"))
    assert mixed.size("train") > Budget.parse(possible).amount - 40


def test_a_short_source_gives_its_lack_to_the_others_by_weight(tmp_path: Path) -> None:
    texts = {"alpha": TREES["alpha"][:20], "beta": TREES["beta"], "gamma": [f"Ash tree {i} fell." for i in range(300)]}
    write_sources(tmp_path, texts)
    recipe = recipe_of(texts, "6kB", "90B", **{"short-sources": "redistribute"})
    recipe["sources"]["gamma"] = {"weight": 2}
    sources = Mixed(tmp_path, recipe).report["sources"]
    size = {name: source["train"]["bytes"] + 2 * source["train"]["documents"] for name, source in sources.items()}
    assert 5970 < sum(size.values()) <= 6000
    assert abs(size["gamma"] - 2 * size["beta"]) < 80
    with pytest.raises(FirstwordsError, match="all sources together have"):
        Mixed(tmp_path, recipe | {"budget": "1MB"})


def test_a_short_source_may_be_accepted(tmp_path: Path) -> None:
    texts = {"alpha": TREES["alpha"][:20], "beta": TREES["beta"]}
    write_sources(tmp_path, texts)
    mixed = Mixed(tmp_path, recipe_of(texts, "4kB", "60B", **{"short-sources": "accept"}))
    tally = mixed.report["sources"]["beta"]["train"]
    assert 2000 - 40 < tally["bytes"] + 2 * tally["documents"] <= 2040
    assert mixed.size("train") < 3000


def test_documents_larger_than_the_share_are_dropped_with_the_reason(tmp_path: Path) -> None:
    texts = {"alpha": ["word " * 500, *TREES["alpha"]], "beta": TREES["beta"]}
    write_sources(tmp_path, texts)
    mixed = Mixed(tmp_path, recipe_of(texts, "2kB", "100B"))
    assert mixed.report["sources"]["alpha"]["dropped"]["documents"] == {"larger than the share of its source": 1}
    with pytest.raises(FirstwordsError, match='documents = "lines"'):
        Mixed(tmp_path, recipe_of(["alpha"], "20B", "9B"))


def test_everything_dropped_is_written_down(tmp_path: Path) -> None:
    oak = "= = = Oak = = =\nThe oak is a tree.\nReferences."
    elm = "= = = Elm = = =\nAn elm."
    yew = "= = = Yew = = =\nA yew is a tree" + " indeed" * 300
    (tmp_path / "alpha.txt").write_text("\n\n".join([oak, elm, yew]))
    rules = ["wiki-headings", "wiki-furniture", "wiki-stubs"]
    recipe = recipe_of(["alpha"], "1kB", "2B", **{"short-sources": "accept"})
    mixed = Mixed(tmp_path, recipe | {"sources": {"alpha": {"documents": "headings", "rules": rules}}})
    line, first, second, long = mixed.dropped()
    assert line == {
        "what": "line",
        "source": "alpha",
        "place": "alpha.txt:1",
        "rule": "wiki-furniture",
        "reason": "page furniture of a wiki",
        "text": "References.",
    }
    stub = {"what": "document", "source": "alpha", "rule": "wiki-stubs", "reason": "a stub of fewer than 25 words"}
    assert first == stub | {"place": "alpha.txt:1", "text": "Oak\nThe oak is a tree."}
    assert second == stub | {"place": "alpha.txt:5", "text": "Elm\nAn elm."}
    assert (long["place"], long["rule"], len(long["text"])) == ("alpha.txt:8", None, 200)
    source = mixed.report["sources"]["alpha"]
    assert source["dropped"] == {
        "documents": {"a stub of fewer than 25 words": 2, "larger than the share of its source": 1},
        "lines": {"page furniture of a wiki": 1},
    }
    words = len(f"{oak} {elm} {yew}".split())
    assert source["read"] == {"documents": 3, "bytes": len(oak + elm + yew), "words": words}
    assert source["after_rules"] == {
        "wiki-headings": {"documents": 3, "bytes": len(oak + elm + yew) - 36, "words": words - 18},
        "wiki-furniture": {"documents": 3, "bytes": len(oak + elm + yew) - 48, "words": words - 19},
        "wiki-stubs": {"documents": 1, "bytes": len(yew) - 12, "words": 306},
    }


def test_duplicates_are_taken_once_and_counted(tmp_path: Path) -> None:
    texts = {"alpha": [*TREES["alpha"], *TREES["alpha"][:7]], "beta": [*TREES["alpha"][:5], *TREES["beta"]]}
    write_sources(tmp_path, texts)
    sources = Mixed(tmp_path, recipe_of(texts, "1kB", "200B")).report["sources"]
    assert sources["alpha"]["dropped"]["documents"] == {"duplicate of an earlier document": 7}
    assert sources["beta"]["dropped"]["documents"] == {"duplicate of an earlier document": 5}


def test_corpus_json_says_where_everything_came_from(tmp_path: Path) -> None:
    write_sources(tmp_path, TREES)
    recipe = recipe_of(TREES, "1000 words", "90 words")
    recipe["sources"]["alpha"] = {"license": "CC0", "rules": ["whitespace"]}
    mixed = Mixed(tmp_path, recipe)
    report = json.loads(mixed.bytes_of("corpus.json"))
    assert report == mixed.report
    assert report["budget"] == {"text": "1000 words", "amount": 1000, "unit": "words"}
    data = (tmp_path / "alpha.txt").read_bytes()
    assert report["sources"]["alpha"]["license"] == "CC0"
    assert report["sources"]["alpha"]["files"] == [
        {"name": "alpha.txt", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    ]
    for part in ("train", "dev"):
        text = mixed.bytes_of(f"{part}.txt")
        facts = {key: report[part][key] for key in ("bytes", "words", "documents", "sha256")}
        assert facts == {
            "bytes": len(text),
            "words": len(text.split()),
            "documents": len(mixed.documents(part)),
            "sha256": hashlib.sha256(text).hexdigest(),
        }
        assert sum(source[part]["words"] for source in report["sources"].values()) == report[part]["words"]
        assert sum(source[part]["documents"] for source in report["sources"].values()) == report[part]["documents"]
    names = {"train.txt", "dev.txt", "train.index.npy", "dev.index.npy", "dropped.jsonl", "corpus.json"}
    assert {path.name for path in mixed.folder.iterdir()} == names


def test_the_endless_grammar_is_read_no_further_than_needed(tmp_path: Path) -> None:
    recipe = {
        "sources": {name: {"at": f"grammar:{name}"} for name in ("encyclopedic", "conversation", "subtitles")},
        "budget": "30kB",
        "dev-budget": "3kB",
    }
    one, other = Mixed(tmp_path, recipe), Mixed(tmp_path, recipe)
    assert one.bytes_of("train.txt") == other.bytes_of("train.txt")
    assert 28_000 < one.size("train") <= 30_000
    assert all(source["read"]["bytes"] < 40_000 for source in one.report["sources"].values())


def test_a_share_that_no_document_of_the_grammar_fits_is_refused_not_waited_for(tmp_path: Path) -> None:
    recipe = {
        "sources": {"facts": {"at": "grammar:encyclopedic"}, "talk": {"at": "grammar:conversation", "weight": 0.001}},
        "budget": "2 MB",
        "dev-budget": "10 kB",
        "order": "source",
    }  # fmt: skip
    with pytest.raises(FirstwordsError, match="talk has 0 B of its share of") as refused:
        Mixed(tmp_path, recipe)
    assert "documents larger than the share are dropped" in refused.value.what


def test_a_dev_text_of_its_own_is_copied_as_it_is(tmp_path: Path) -> None:
    write_sources(tmp_path, TREES)
    dev = tmp_path / "held-out.txt"
    dev.write_bytes(b"half a char\xc3\r\n")
    recipe = {"sources": {"alpha": {}, "beta": {}}, "budget": "1kB", "dev-file": "held-out.txt"}
    mixed = Mixed(tmp_path, recipe, dev_file=dev)
    assert mixed.bytes_of("dev.txt") == dev.read_bytes()
    assert np.load(mixed.folder / "dev.index.npy").tolist() == [[0, 14, 0]]
    assert mixed.report["dev"]["words"] == 3
    for data, what in (
        (b"", "is empty"),
        (b" \n\n", "has no words"),
        (gzip.compress(b"words " * 500), "is no UTF-8 text"),
        (("\u00e9t\u00e9 " * 500).encode("latin-1"), "is no UTF-8 text"),
    ):
        dev.write_bytes(data)
        with pytest.raises(FirstwordsError, match=what):
            Mixed(tmp_path, recipe, dev_file=dev)


# ---- by chunks ----


def chunks_recipe(budget: str, chunk_bytes: int, **more: Any) -> dict[str, Any]:
    return {
        "sources": {"alpha": {}, "beta": {}, "gamma": {}},
        "budget": budget,
        "mix": "chunks",
        "chunk-bytes": chunk_bytes,
        "dev-file": "gamma.txt",
    } | more


@pytest.fixture
def letters(tmp_path: Path) -> Callable[..., Mixed]:
    """Mix sources that are nothing but a, b and c by chunks."""
    for name, size in (("alpha", 50), ("beta", 100), ("gamma", 100)):
        (tmp_path / f"{name}.txt").write_text(name[0].replace("g", "c") * size)
    return lambda *args, **more: Mixed(tmp_path, chunks_recipe(*args, **more), dev_file=tmp_path / "gamma.txt")


def test_the_published_card_is_mixed_to_the_byte(shared_data: Path, tmp_path: Path) -> None:
    names = ("simple_wiki", "bnc_spoken", "open_subtitles")
    recipe = {"sources": {name: {} for name in names}, "budget": "2MiB", "mix": "chunks", "dev-file": "eval_A.txt"}
    card = shared_data / "cards" / "a"
    corpus = CorpusSettings.model_validate(recipe)
    report = make_corpus(corpus, resolve_sources(corpus, [card], tmp_path), card / "eval_A.txt", 1, tmp_path)
    assert report["train"]["sha256"] == CARD_A_SHA256
    assert hashlib.sha256((tmp_path / "train.txt").read_bytes()).hexdigest() == CARD_A_SHA256
    assert [report["sources"][name]["train"]["bytes"] for name in names] == [699_051, 699_051, 699_050]
    index = np.load(tmp_path / "train.index.npy")
    assert index[:, 2].tolist() == [0, 1, 2] * 3 and (index[1:, 0] == index[:-1, 1]).all()
    assert (tmp_path / "dev.txt").read_bytes() == (card / "eval_A.txt").read_bytes()


def test_chunks_take_turns_until_each_source_gave_its_quota(letters: Callable[..., Mixed]) -> None:
    mixed = letters("32B", 4)
    assert mixed.bytes_of("train.txt") == b"aaaabbbbcccc" * 2 + b"aaabbbcc"


def test_chunks_follow_weights(letters: Callable[..., Mixed]) -> None:
    mixed = letters("40B", 100, sources={"alpha": {}, "beta": {"weight": 2}, "gamma": {}})
    assert mixed.bytes_of("train.txt") == b"a" * 10 + b"b" * 20 + b"c" * 10


def test_chunks_of_a_short_source(letters: Callable[..., Mixed]) -> None:
    with pytest.raises(FirstwordsError) as caught:
        letters("180B", 40)
    assert "alpha has 50 B of its share of 60 B, 10 B too little" in caught.value.what
    assert caught.value.do and caught.value.do.startswith("lower it to 150 B")
    shared = letters("180B", 40, **{"short-sources": "redistribute"}).bytes_of("train.txt")
    assert [shared.count(letter) for letter in b"abc"] == [50, 65, 65]
    accepted = letters("180B", 40, **{"short-sources": "accept"}).bytes_of("train.txt")
    assert [accepted.count(letter) for letter in b"abc"] == [50, 60, 60]
    with pytest.raises(FirstwordsError, match="all sources together have 250 B, 50 B too little"):
        letters("300B", 40, **{"short-sources": "redistribute"})


def test_chunks_cannot_be_cleaned(letters: Callable[..., Mixed]) -> None:
    with pytest.raises(FirstwordsError, match="cleans nothing"):
        letters("30B", 4, sources={"alpha": {"rules": ["whitespace"]}, "beta": {}, "gamma": {}})


@given(amount=st.integers(0, 10**12), weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_quotas_are_whole_and_add_up(amount: int, weights: list[float]) -> None:
    parts = quotas(amount, weights)
    assert sum(parts) == amount
    assert all(abs(part - amount * weight / sum(weights)) < 1.01 for part, weight in zip(parts, weights, strict=True))


@given(amount=st.integers(1, 10**13), unit=st.sampled_from(["bytes", "words"]))
def test_amounts_are_said_so_that_a_recipe_can_hold_them(amount: int, unit: Any) -> None:
    said = Budget.parse(say_amount(amount, unit))
    assert said.unit == unit and 0.98 * amount <= said.amount <= amount


# ---- what can go wrong, and how much it takes ----


def test_no_space_left_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    write_sources(tmp_path, TREES)
    corpus = CorpusSettings.model_validate(recipe_of(TREES, "4kB", "200B"))
    sources = resolve_sources(corpus, [tmp_path], tmp_path)
    for name in ("train.txt", "dev.txt"):
        folder = tmp_path / f"corpus-{name}"
        folder.mkdir()
        (folder / name).symlink_to("/dev/full")
        with pytest.raises(FirstwordsError, match="no space left"):
            make_corpus(corpus, sources, None, 1, folder)
        assert not (folder / "corpus.json").exists()


def test_unknown_rules_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    write_sources(tmp_path, TREES)
    with pytest.raises(FirstwordsError, match="no cleaning rule 'whitspace'"):
        Mixed(tmp_path, recipe_of(TREES, "1kB", "90B") | {"sources": {"alpha": {"rules": ["whitspace"]}}})


def test_files_may_come_in_any_order(tmp_path: Path) -> None:
    """`ResolvedSource.files` turned round gives the same text."""
    (tmp_path / "alpha").mkdir()
    for i in range(5):
        (tmp_path / "alpha" / f"{i}.txt").write_text("\n\n".join(TREES["alpha"][i * 40 : i * 40 + 40]))
    corpus = CorpusSettings.model_validate(recipe_of(["alpha"], "2kB", "200B"))
    source: ResolvedSource = resolve_sources(corpus, [tmp_path], tmp_path)["alpha"]
    texts = []
    for files in (source.files, source.files[::-1]):
        folder = tmp_path / f"corpus{len(texts)}"
        folder.mkdir()
        make_corpus(corpus, {"alpha": replace(source, files=files)}, None, 1, folder)
        texts.append((folder / "train.txt").read_bytes())
    assert texts[0] == texts[1]


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """30 MB more of text may take no more than 12 MB more of memory."""
    peaks = []
    for megabytes in (1, 31):
        folder = tmp_path / str(megabytes)
        (folder / "out").mkdir(parents=True)
        with (folder / "alpha.txt").open("w") as file:
            for i in range(megabytes * 1000):
                file.write(f"Document {i}. " + "The oak is a tall tree. " * 41 + "\n\n")
        program = (
            "import resource, sys; from pathlib import Path; from firstwords.recipe import CorpusSettings\n"
            "from firstwords.corpus.sources import resolve_sources; from firstwords.corpus.mixing import make_corpus\n"
            "folder = Path(sys.argv[1]); rules = ['whitespace', 'wiki-markup']\n"
            "corpus = CorpusSettings.model_validate({'sources': {'alpha': {'rules': rules}}, 'budget': '900MB',\n"
            "    'dev-budget': '9kB', 'short-sources': 'accept'})\n"
            "make_corpus(corpus, resolve_sources(corpus, [folder], folder), None, 1, folder / 'out')\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        run = subprocess.run([sys.executable, "-c", program, str(folder)], check=True, capture_output=True, text=True)
        peaks.append(int(run.stdout) * (1 if sys.platform == "darwin" else 1024))
    assert peaks[1] - peaks[0] < 12e6
