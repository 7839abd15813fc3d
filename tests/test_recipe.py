"""Recipes: reading, overriding, refusing, writing out, and the schema."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwords.budget import Budget
from firstwords.cli.template import annotated_toml
from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe, bundled_names, json_schema, setting_keys

SMALL = b"""
name = "small"
[corpus]
budget = "10 kB"
dev-budget = "1 kB"
[corpus.sources.my_text]
at = "text.txt"
"""


@pytest.fixture
def small() -> Recipe:
    return Recipe.parse(SMALL, "small.toml")


def refusal(toml: bytes) -> str:
    with pytest.raises(FirstwordsError) as error:
        Recipe.parse(toml, "small.toml")
    assert error.value.exit_code == 2
    return str(error.value)


# Reading


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_recipe_is_valid_and_says_what_it_is(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert recipe.description


def test_a_setting_that_is_not_given_has_its_default(small: Recipe) -> None:
    assert small.seed == 1
    assert small.training.epochs == 5
    assert small.corpus.sources["my_text"].weight == 1.0


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path, small: Recipe) -> None:
    path = tmp_path / "small.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL)
    assert Recipe.load(path) == small


@pytest.mark.parametrize(
    ("added", "key", "hint"),
    [
        (b"[training]\npeek-lr = 1e-3\n", "training.peek-lr", "training.peak-lr"),
        (b"[model]\nhiden = 64\n", "model.hiden", "model.hidden"),
        (b'[corpus.sources.other]\ndocumants = "lines"\n', "corpus.sources.other.documants", "documents"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(added: bytes, key: str, hint: str) -> None:
    message = refusal(SMALL + added)
    assert f"no setting '{key}'" in message
    assert "small.toml" in message
    assert hint in message.splitlines()[-1]


def test_an_unknown_table_is_refused_with_the_nearest_right_one() -> None:
    message = refusal(SMALL + b"[trainin]\npeak-lr = 1e-3\n")
    assert "'trainin" in message
    assert "did you mean 'training" in message


@pytest.mark.parametrize(
    ("added", "named"),
    [
        (b'[training]\npeak-lr = "fast"\n', "training.peak-lr"),
        (b"[training]\npeak-lr = -1\n", "training.peak-lr"),
        (b'[tokenizer]\nnormalizer = ["nfx"]\n', "tokenizer.normalizer"),
        (b"[model]\nhidden = 100\nheads = 3\n", "model"),
        (b"[tokens]\ncontext = 1024\n", "tokens.context"),
        (b"[corpus.sources.other]\nweight = 0\n", "corpus.sources.other.weight"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(added: bytes, named: str) -> None:
    message = refusal(SMALL + added)
    assert named in message
    assert "small.toml" in message


def test_a_missing_setting_is_named() -> None:
    assert "corpus.budget" in refusal(SMALL.replace(b'budget = "10 kB"\ndev-', b"dev-"))


def test_broken_toml_is_refused_with_its_line() -> None:
    assert "line 2" in refusal(b"name = 'x'\n= 3\n")


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="no recipe file"):
        Recipe.load(tmp_path / "nothing.toml")
    with pytest.raises(FirstwordsError) as error:
        Recipe.load("modl-a")
    assert "did you mean 'model-a'?" in str(error.value)


# Overriding


def test_dotted_keys_set_values_of_their_type(small: Recipe) -> None:
    changed = small.override(
        {
            "training.peak-lr": "1e-3",
            "training.batch_size": "8",
            "model.tied-embeddings": "true",
            "tokenizer.normalizer": '["nfd", "lowercase"]',
            "evaluation.suites": "[]",
            "corpus.budget": "20 kB",
            "corpus.sources.my_text.document-bytes": "512",
            "seed": "7",
        }
    )
    assert changed.training.peak_lr == 1e-3
    assert changed.training.batch_size == 8
    assert changed.model.tied_embeddings is True
    assert changed.tokenizer.normalizer == ("nfd", "lowercase")
    assert changed.evaluation.suites == ()
    assert changed.corpus.budget.amount == 20_000
    assert changed.corpus.sources["my_text"].document_bytes == 512
    assert changed.seed == 7
    assert small.seed == 1


def test_an_override_of_nothing_changes_nothing(small: Recipe) -> None:
    assert small.override({}) == small


@pytest.mark.parametrize("key", ["training.peek-lr", "trainin.peak-lr", "training.peak-lr.x", "sed"])
def test_an_override_of_an_unknown_key_is_refused_with_a_hint(small: Recipe, key: str) -> None:
    with pytest.raises(FirstwordsError) as error:
        small.override({key: "1"})
    assert f"'{key}'" in error.value.what
    assert "did you mean" in (error.value.do or "")


# Writing out


@pytest.mark.parametrize("name", bundled_names())
def test_toml_round_trip(name: str) -> None:
    recipe = Recipe.load(name)
    assert Recipe.parse(recipe.to_toml().encode(), "again") == recipe


@pytest.mark.parametrize("name", bundled_names())
def test_the_annotated_recipe_is_the_same_recipe(name: str) -> None:
    recipe = Recipe.load(name)
    assert Recipe.parse(annotated_toml(recipe).encode(), "again") == recipe


def test_the_annotated_recipe_shows_every_setting(small: Recipe) -> None:
    lines = annotated_toml(small).splitlines()
    for key in setting_keys():
        last = key.rpartition(".")[2]
        assert any(line.startswith((f"{last} =", f"# {last} =")) for line in lines), key


@given(
    peak_lr=st.floats(1e-9, 10),
    seed=st.integers(0, 2**63 - 1),
    bos=st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()),
    rules=st.lists(st.text(max_size=5), max_size=3),
)
def test_any_values_survive_the_round_trip(peak_lr: float, seed: int, bos: str, rules: list[str]) -> None:
    values: dict[str, Any] = tomllib.loads(SMALL.decode())
    values |= {"seed": seed, "training": {"peak-lr": peak_lr}, "tokenizer": {"bos": bos}}
    values["corpus"]["sources"]["my text.2"] = {"rules": rules}
    recipe = Recipe.build(values, "test")
    assert Recipe.parse(recipe.to_toml().encode(), "again") == recipe
    assert Recipe.parse(annotated_toml(recipe).encode(), "again") == recipe


# The schema


def test_the_schema_has_every_setting_with_its_meaning() -> None:
    schema = json_schema()
    found: dict[str, str] = {}

    def walk(node: dict[str, Any], prefix: str) -> None:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        for name, field in node.get("properties", {}).items():
            found[prefix + name] = field.get("description", "")
            if name == "sources":
                walk(field["additionalProperties"], prefix + "sources.<source>.")
            elif "$ref" in field:
                walk(field, f"{prefix}{name}.")

    walk(schema, "")
    for key in setting_keys():
        assert found.get(key), f"{key} is not in the schema or has no description"


def test_the_schema_takes_a_budget_as_recipes_write_it() -> None:
    budget = json_schema()["$defs"]["CorpusSettings"]["properties"]["budget"]
    assert budget.get("type") == "string"


# Budgets


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("10MB", 10_000_000, "bytes"),
        ("10 MiB", 10_485_760, "bytes"),
        ("262144 B", 262_144, "bytes"),
        ("10M words", 10_000_000, "words"),
        ("500k words", 500_000, "words"),
        ("1,000 words", 1_000, "words"),
        ("1_000 words", 1_000, "words"),
        ("1.5 kB", 1_500, "bytes"),
    ],
)
def test_budgets_as_people_write_them(text: str, amount: int, unit: str) -> None:
    budget = Budget.parse(text)
    assert (budget.amount, budget.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["", "10", "MB", "10 apples", "-1 MB", "0 MB", "0.1 B", "10 M", "1e3 MB", "10 mb"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount of text"):
        Budget.parse(text)


UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
WORDS = {"words": 1, "k words": 10**3, "M words": 10**6, "B words": 10**9}


@given(number=st.integers(1, 10**6), unit=st.sampled_from([*UNITS, *WORDS]), space=st.sampled_from(["", " ", "  "]))
def test_a_whole_number_of_any_unit_is_exact(number: int, unit: str, space: str) -> None:
    budget = Budget.parse(f"{number:,}{space}{unit}")
    assert budget.amount == number * (UNITS | WORDS)[unit]
    assert budget.unit == ("bytes" if unit in UNITS else "words")
    assert Budget.parse(budget.text) == budget


@given(st.text(max_size=20))
def test_any_text_is_a_budget_or_refused(text: str) -> None:
    try:
        assert Budget.parse(text).amount > 0
    except ValueError as error:
        assert "is no amount of text" in str(error)
