"""Reading times: planted effects are found, the official numbers are reproduced, and wrong tables are named."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from firstwords.errors import FirstwordsError
from firstwords.evaluation.hf_models import CausalModel, MaskedModel
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.tasks.reading_times import EYE_TRACKING, SELF_PACED, TASK
from firstwords.evaluation.tasks.task import Lookup, NotFound, Task, TaskData, write_task_result
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=64, init_std=0.3)
MEASURES = (*EYE_TRACKING, SELF_PACED)
COLUMNS = (
    *("item", "word", "sentence", "sent_id", "context_length", "Subtlex_log10", "length"),
    *("prev_word", "prev_item", "prev_length", *MEASURES),
)


def table(rng: np.random.Generator, sentences: int = 60) -> list[dict[str, Any]]:
    """Rows as the published table has them, with times that are noise; the last word has its mark."""
    nouns, verbs = ["cat", "dog", "bird", "girl", "teacher", "riverbank"], ["sleeps", "sings", "runs", "talks", "eats"]
    rows: list[dict[str, Any]] = []
    for number in range(sentences):
        start = "None of them" if number == 0 else f"The {rng.choice(nouns)}"
        words = f"{start} {rng.choice(verbs)} near the {rng.choice(nouns)}, quietly {rng.choice(verbs)}.".split()
        for place in range(1, len(words)):
            first = place == 1
            row = {
                # The published table has lost the word "None", where it stands alone.
                "item": " ".join(words[:place]).replace("None", "") if first else " ".join(words[:place]),
                "word": words[place],
                "sentence": " ".join(words),
                "sent_id": number,
                "context_length": place,
                "Subtlex_log10": "" if words[place] == "quietly" else f"{rng.normal(9, 2):.3f}",
                "length": len(words[place]),
                "prev_word": "" if first else words[place - 1].rstrip(".,"),
                "prev_item": "" if first else " ".join(words[: place - 1]),
                "prev_length": -1 if first else len(words[place - 1]),
            }
            rows.append(row | {measure: f"{rng.normal(250, 20):.4f}" for measure in MEASURES})
    return rows


def write(folder: Path, rows: list[dict[str, Any]]) -> TaskData:
    folder.mkdir(exist_ok=True)
    with (folder / "reading_data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return TASK.load(Lookup([folder], folder))


@pytest.fixture(scope="module")
def subject(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


def test_it_is_a_task() -> None:
    task: Task = TASK
    assert task.name == "reading-times"
    assert next(iter(task.protocols)) == "firstwords"


def test_a_planted_effect_is_found_with_its_size(subject: OwnModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = table(rng)
    nothing = TASK.evaluate(subject, write(tmp_path, rows), "firstwords")
    assert nothing.overall.value < 0.02
    assert nothing.parts["self-paced"].low == 0 < nothing.parts["self-paced"].high  # type: ignore[operator]
    for row, scored in zip(rows, nothing.rows, strict=True):
        for measure in MEASURES:
            times = 200 + 8 * float(row["length"]) + 4 * scored["surprisal_bits"] + rng.normal(0, 8)
            row[measure] = f"{times:.6f}"
    found = TASK.evaluate(subject, write(tmp_path, rows), "firstwords")
    assert found.rows == nothing.rows
    for measure in MEASURES:
        slope = found.more["measures"][measure]["slope_ms_per_bit"]
        assert 3.6 < slope["low"] < slope["value"] < slope["high"] < 4.4
        assert slope["value"] == pytest.approx(4, abs=0.25)
    for part in (found.overall, *found.parts.values()):
        assert part.low is not None and part.high is not None
        assert 0.5 < part.low < part.value < part.high < 1
    assert found.overall.value == pytest.approx(sum(part.value for part in found.parts.values()) / 2)


def test_the_regressions_are_those_of_the_official_formulas(subject: OwnModel, tmp_path: Path) -> None:
    import pandas
    import statsmodels.formula.api as formulas

    data = write(tmp_path, table(np.random.default_rng(1)))
    result = TASK.evaluate(subject, data, "babylm-2025")
    frame = pandas.read_csv(tmp_path / "reading_data.csv", dtype={"item": str})
    frame["pred"] = [row["surprisal_bits"] for row in result.rows]
    frame["prev_pred"] = [row["previous_surprisal_bits"] for row in result.rows]
    plain, spill = ["Subtlex_log10", "length", "context_length"], ["prev_length", "prev_pred"]
    for measure in MEASURES:
        names = plain + spill if measure == SELF_PACED else plain
        known = frame[[measure, "pred", *names]].astype(float).dropna()
        # Powers of a sum in a formula are its terms and their products.
        baseline = f"{measure} ~ ({' + '.join(names)})**2"
        alone, both = (formulas.ols(formula, known).fit().rsquared for formula in (baseline, baseline + " + pred"))
        told = result.more["measures"][measure]
        assert told["words"] == len(known)
        assert told["share"] == pytest.approx((both - alone) / (1 - alone), abs=1e-9)
    shares = [result.more["measures"][measure]["share"] for measure in EYE_TRACKING]
    assert result.parts["eye-tracking"].value == pytest.approx(sum(shares) / 4)
    assert result.more["percent"]["self-paced"] == pytest.approx(100 * result.parts["self-paced"].value)


def hugging_face(vocabulary: Vocabulary, **special: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    copy = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    return PreTrainedTokenizerFast(
        tokenizer_object=copy, bos_token="<s>", eos_token="</s>", pad_token="<pad>", **special
    )


def official_bits(model: Any, tokenizer: Any, context: str, word: str) -> float:
    """The official procedure in its own terms: text in, the last logits out, piece by piece."""

    def chance(text: str, target: int) -> float:
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0, -1]
        return float(logits.softmax(dim=-1)[target])

    pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
    product, text = chance(context, pieces[0]), context + tokenizer.decode(pieces[0])
    for piece in pieces[1:]:
        shown = tokenizer.decode(piece)
        product *= chance(text, tokenizer(shown, add_special_tokens=False)["input_ids"][0])
        text += shown
    return -math.log2(product)


def test_the_official_surprisals_are_reproduced_and_are_not_those_of_the_sentence(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=vocabulary.size, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    tokenizer = hugging_face(vocabulary)
    subject = CausalModel("gpt", model, tokenizer)
    data = write(tmp_path, table(np.random.default_rng(2), 12))
    official, own = (TASK.evaluate(subject, data, protocol) for protocol in ("babylm-2025", "firstwords"))
    for row in official.rows[:15]:
        expected = official_bits(model, tokenizer, row["context"], row["word"])
        assert row["surprisal_bits"] == pytest.approx(expected, abs=1e-3)
    # The word before the second of a sentence that begins with "None" is a missing value to the official script.
    assert official.rows[0]["context"] == "None"
    assert [row["previous_surprisal_bits"] is None for row in official.rows[:3]] == [True, True, False]
    assert [row["previous_surprisal_bits"] is None for row in own.rows[:3]] == [True, False, False]
    differences = [
        abs(one["surprisal_bits"] - other["surprisal_bits"]) for one, other in zip(official.rows, own.rows, strict=True)
    ]
    assert sum(difference > 0.5 for difference in differences) > len(differences) / 2
    assert official.notes and not own.notes
    assert official.statement != own.statement

    # By hand: after BOS, the word with the space before it and without the mark after it.
    by_text = {(row["context"], row["word"]): row["surprisal_bits"] for row in own.rows}
    (context, word), bits = next((key, bits) for key, bits in by_text.items() if key[1].endswith("."))
    before, ids = (vocabulary.encode([text])[0] for text in (context, f"{context} {word.rstrip('.')}"))
    with torch.no_grad():
        table_TV = model(torch.tensor([[vocabulary.bos_id, *ids]])).logits[0].log_softmax(dim=-1)
    expected = -sum(float(table_TV[place, ids[place]]) for place in range(len(before), len(ids))) / math.log(2)
    assert bits == pytest.approx(expected, abs=1e-3)
    assert ids[: len(before)] == before


def test_the_protocol_with_ends_of_words_gives_other_numbers(subject: OwnModel, tmp_path: Path) -> None:
    data = write(tmp_path, table(np.random.default_rng(3), 20))
    plain, ends = (TASK.evaluate(subject, data, protocol) for protocol in ("firstwords", "word-end"))
    assert [row["surprisal_bits"] for row in plain.rows] != [row["surprisal_bits"] for row in ends.rows]
    assert "it ends there" in ends.statement


def test_masked_models_read_masks_after_what_was_read(vocabulary: Vocabulary, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    copy = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    copy.add_special_tokens(["<mask>"])
    tokenizer = hugging_face(Vocabulary(copy, 300, 301, 302), mask_token="<mask>")
    torch.manual_seed(0)
    size = len(tokenizer)
    config = BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    model = BertForMaskedLM(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    subject = MaskedModel("bert", model, tokenizer)
    data = write(tmp_path, table(np.random.default_rng(4), 12))
    with pytest.raises(FirstwordsError, match="masked model"):
        TASK.evaluate(subject, data, "word-end")
    official, own = (TASK.evaluate(subject, data, protocol) for protocol in ("babylm-2025", "firstwords"))
    assert "masks" in official.statement and "masks" in own.statement
    mask = tokenizer.mask_token_id
    row = own.rows[1]
    text = f"{row['context']} {row['word']}"
    ids = tokenizer(text)["input_ids"]
    first = len(tokenizer(row["context"])["input_ids"])
    expected = 0.0
    for place in range(first, len(ids)):
        # What comes after, the word's own later pieces and two tokens more, is masked.
        shown = [*ids[:place], *[mask] * (len(ids) - place), mask, mask]
        with torch.no_grad():
            logits = model(torch.tensor([shown])).logits[0, place]
        expected -= float(logits.log_softmax(dim=-1)[ids[place]]) / math.log(2)
    assert row["surprisal_bits"] == pytest.approx(expected, abs=1e-3)


def test_a_result_can_be_written(subject: OwnModel, tmp_path: Path) -> None:
    data = write(tmp_path, table(np.random.default_rng(5), 20))
    result = TASK.evaluate(subject, data, "firstwords")
    path = write_task_result(
        result, tmp_path, "reading", task=TASK, protocol="firstwords", data=data, facts=subject.facts
    )
    assert path.is_file()
    with (tmp_path / "reading.items.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(data.items)


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        ({"word": "elephants"}, 4, "does not begin with what was read"),
        ({"length": "long"}, 4, "'long' is no number, in the column 'length'"),
        ({"Subtlex_log10": "NA"}, 4, "'NA' is no number"),
        ({"word": ""}, 4, "does not begin"),
    ],
)
def test_a_malformed_line_is_named(change: Mapping[str, str], line: int, message: str, tmp_path: Path) -> None:
    rows = table(np.random.default_rng(6), 5)
    rows[line - 2] |= change
    with pytest.raises(FirstwordsError, match=message) as caught:
        write(tmp_path, rows)
    assert caught.value.where == f"{tmp_path / 'reading_data.csv'}:{line}"


def test_a_table_without_its_columns_or_words_is_refused(tmp_path: Path, subject: OwnModel) -> None:
    path = tmp_path / "reading_data.csv"
    path.write_text("item,word\nThe,cat\n")
    with pytest.raises(FirstwordsError, match="lacks the columns RTfirstfix, RTfirstpass"):
        TASK.load(Lookup([tmp_path], tmp_path))
    path.write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(FirstwordsError, match="has no words"):
        TASK.load(Lookup([tmp_path], tmp_path))
    path.unlink()
    with pytest.raises(NotFound, match="reading_data"):
        TASK.load(Lookup([tmp_path], tmp_path))
    with pytest.raises(FirstwordsError, match=r"only \d+ words have all"):
        TASK.evaluate(subject, write(tmp_path, table(np.random.default_rng(7), 5)), "firstwords")


def test_the_published_table_has_its_size_and_an_untrained_model_explains_next_to_nothing(
    shared_data: Path, tmp_path: Path
) -> None:
    data = TASK.load(Lookup([shared_data / "babylm-2025"], tmp_path))
    words = data.items
    assert len(words) == 1_726
    assert len({word.sentence for word in words}) == 205
    assert sum(word.previous_context is None for word in words) == 205
    assert all(later.line == earlier.line + 1 for earlier, later in pairwise(words))
    # A tokenizer to which most words are one token.
    whole_words = Vocabulary(
        Tokenizer.from_file(str(shared_data / "cards" / "b" / "tokenizer.json")), 32_000, 32_000, 32_001
    )
    untrained = Llama(SHAPE.model_copy(update={"init_std": 0.02}), whole_words.size, seed=2)
    subject = OwnModel("untrained", untrained, whole_words)
    own, official = (TASK.evaluate(subject, data, protocol) for protocol in ("firstwords", "babylm-2025"))
    # Rows without a frequency or a word before them drop out, as in the official script.
    assert (own.parts["eye-tracking"].items, own.parts["self-paced"].items) == (1_696, 1_497)
    assert (official.parts["eye-tracking"].items, official.parts["self-paced"].items) == (1_696, 1_496)
    # All that an untrained model can tell is the number of tokens, and the marks at the ends of sentences are tokens.
    assert own.overall.value < 0.01
    assert 0.02 < official.overall.value < 0.05
    for result in (own, official):
        for name, part in result.parts.items():
            assert part.value == pytest.approx(result.more["floor_of_number_of_tokens"][name], abs=0.005)
