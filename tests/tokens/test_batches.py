"""batch(step) is a pure function, and what it yields is all of the text and nothing else."""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwords.model.llama import Llama
from firstwords.model.loss import IGNORE, summed_cross_entropy
from firstwords.run_folder import atomic_write_json
from firstwords.settings import ModelSettings, TokenSettings, TrainingSettings
from firstwords.tokens.batches import Batches, BatchesAhead, StepBatch, TokenSequence, flat, flat_batches
from firstwords.tokens.encoding import TokenFile

documents_lists = st.lists(st.integers(1, 30), min_size=1, max_size=25)


def token_file(lengths: list[int]) -> TokenFile:
    """A token file whose ids are all different: id i is the i-th token of the text."""
    folder = Path(tempfile.mkdtemp())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.arange(offsets[-1], dtype=np.uint16).tofile(folder / "t.bin")
    np.save(folder / "t.offsets.npy", offsets)
    facts = {
        "dtype": "uint16", "tokens": int(offsets[-1]), "examples": len(lengths), "longest_example": max(lengths),
        "words": int(offsets[-1]), "text_bytes": 1, "sha256": "",
    }  # fmt: skip
    atomic_write_json(folder / "t.json", facts)
    return TokenFile(folder, "t")


def made(lengths: list[int], tokens: TokenSettings, seed: int = 5, **training: int) -> Batches:
    return Batches(token_file(lengths), tokens, TrainingSettings(**training), seed)  # type: ignore[arg-type]


def pairs_of(batch: StepBatch) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for sequence in batch.sequences for a, b in itertools.pairwise(sequence.ids)]


LINES = TokenSettings(examples="lines", context=30)


@given(lengths=documents_lists, batch_size=st.integers(1, 7))
def test_lines_every_transition_of_the_text_is_a_target_once_an_epoch(lengths: list[int], batch_size: int) -> None:
    batches = made(lengths, LINES, batch_size=batch_size, epochs=1)
    found = sorted(pair for step in range(batches.steps) for pair in pairs_of(batches.step(step)))
    ends = set(np.cumsum(lengths).tolist())
    assert found == [(i, i + 1) for i in range(sum(lengths) - 1) if i + 1 not in ends]
    assert sum(batches.step(step).tokens for step in range(batches.steps)) == sum(lengths)


@given(lengths=documents_lists, context=st.integers(2, 16), cross=st.booleans(), seed=st.integers(0, 99))
def test_packed_rows_are_the_shuffled_documents_cut_to_the_context(
    lengths: list[int], context: int, cross: bool, seed: int
) -> None:
    if sum(lengths) <= context:
        return
    settings = TokenSettings(context=context, cross_documents=cross)
    batches = made(lengths, settings, seed, batch_size=1, epochs=1)
    found = [pair for step in range(batches.rows_per_epoch) for pair in pairs_of(batches.step(step))]
    assert len(set(found)) == len(found), "nothing is a target twice"
    rows = batches.rows_per_epoch * context
    if cross:
        assert len(found) == rows
    else:
        assert all(b == a + 1 for a, b in found), "no target is in another document"
        assert len(found) >= rows - len(lengths)


@given(seed=st.integers(0, 2**32), accumulation=st.integers(1, 4), step=st.integers(0, 40))
@settings(max_examples=30)
def test_a_step_is_the_same_whenever_and_wherever_it_is_asked_for(seed: int, accumulation: int, step: int) -> None:
    lengths = [3, 9, 1, 14, 7, 2, 8, 30, 5]
    asked = made(lengths, LINES, seed, batch_size=2, accumulation=accumulation)
    other = made(lengths, LINES, seed, batch_size=2, accumulation=accumulation)
    for earlier in (7, 0, 3):
        other.step(earlier)
    assert pairs_of(asked.step(step)) == pairs_of(other.step(step))
    whole = asked.step(step)
    for world_size in (1, 2, 3):
        slices = [sequence for rank in range(world_size) for sequence in whole.slice_of(rank, world_size)]
        assert sorted(map(str, slices)) == sorted(map(str, whole.sequences))


def test_gathered_ahead_the_steps_are_the_same() -> None:
    batches = made([3, 9, 1, 14, 7, 2, 8, 30, 5], LINES, batch_size=2, epochs=2)
    ahead = BatchesAhead(batches)
    for step in (*range(batches.steps), 2, 3, 0):  # in order, and out of it
        assert pairs_of(ahead.step(step)) == pairs_of(batches.step(step))


def test_epochs_are_shuffled_anew_and_seeds_differ() -> None:
    lengths = [5] * 40
    batches = made(lengths, LINES, batch_size=40)
    orders = [[s.example for s in batches.step(step).sequences] for step in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))
    assert orders[0] != [s.example for s in made(lengths, LINES, 6, batch_size=40).step(0).sequences]


def test_model_as_steps_are_counted_as_its_trainer_counted_them() -> None:
    """3,575 steps; dev losses after 715, 1431, 2147, 2863 and 3575, as in its published log."""
    lines = {"batch_size": 16, "accumulation": 4, "epochs": 5}
    batches = made([2] * 45_807, LINES, **lines, whole_steps_per_epoch=True)
    assert batches.steps == 3_575 and made([2] * 45_807, LINES, **lines).steps == 3_578
    assert [step + 1 for step in range(batches.steps) if batches.ends_epoch(step)] == [715, 1431, 2147, 2863, 3575]
    assert abs(batches.epochs_done(3575) - 4.994760740482012) < 1e-12


def test_loss_and_gradients_are_those_of_the_padded_batch() -> None:
    """What the cards' Trainer computes on a rectangle of 64 columns, we compute without its padding."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from firstwords.model.hub import to_transformers_weights

    shape = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=64)
    batches = made([3, 9, 1, 14, 7, 2, 30, 5], LINES, batch_size=8)
    batch = batches.step(0)
    ours = Llama(shape, 80, seed=1)
    config = LlamaConfig(
        vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config)
    theirs.load_state_dict(to_transformers_weights(ours))

    ids, labels = torch.zeros(8, 30, dtype=torch.int64), torch.full((8, 30), IGNORE)
    for row, sequence in enumerate(batch.sequences):
        length = len(sequence.ids)
        ids[row, :length] = labels[row, :length] = torch.from_numpy(sequence.ids.astype(np.int64))
    their_loss = theirs(input_ids=ids, attention_mask=(labels != IGNORE).long(), labels=labels).loss
    their_loss.backward()

    our_loss = torch.zeros(())
    for part in flat_batches(batch.sequences, micro_tokens=25):
        hidden = ours.hidden(part.ids_N, part.layout)
        loss = summed_cross_entropy(hidden, ours.unembedding.weight, part.targets_N) / batch.targets
        loss.backward()
        our_loss += loss.detach()
    assert torch.allclose(our_loss, their_loss, rtol=1e-5)
    their_gradients = {name: weight.grad for name, weight in theirs.named_parameters()}
    for block, layer in zip(ours.blocks, range(2), strict=True):
        q, k, v = block.attention.qkv.weight.grad.chunk(3)
        for part, name in ((q, "q"), (k, "k"), (v, "v")):
            expected = their_gradients[f"model.layers.{layer}.self_attn.{name}_proj.weight"]
            assert torch.allclose(part, expected, atol=1e-6)
    assert torch.allclose(ours.embedding.weight.grad, their_gradients["model.embed_tokens.weight"], atol=1e-6)
    assert torch.allclose(ours.unembedding.weight.grad, their_gradients["lm_head.weight"], atol=1e-6)


COURSE = TrainingSettings.model_validate(
    {
        "batch_size": 4, "batch_size_schedule": [[1, 0.2], [3, 0.5]], "context_schedule": [[2, 0.3], [5, 0.7]],
        "epochs": 4,
    }
)  # fmt: skip


@given(lengths=documents_lists, cross=st.booleans(), seed=st.integers(0, 99))
def test_with_schedules_no_token_of_an_epoch_is_a_target_twice_and_few_are_left_out(
    lengths: list[int], cross: bool, seed: int
) -> None:
    context = 8
    if sum(lengths) <= context:
        return
    tokens = TokenSettings(context=context, cross_documents=cross)
    batches = Batches(token_file(lengths), tokens, COURSE, seed)
    found = [pair for step in range(batches.steps) for pair in pairs_of(batches.step(step))]
    rounds = batches.epochs_done(batches.steps)
    assert max(found.count(pair) for pair in set(found)) <= math.ceil(rounds)
    # Of each epoch less than a row is left out, and where documents do not see each other their first tokens.
    assert len(found) >= rounds * (sum(lengths) - 1) - math.ceil(rounds) * (context + (0 if cross else len(lengths)))
    if not cross:
        assert all(b == a + 1 for a, b in found), "no target is in another document"


@given(seed=st.integers(0, 2**32), step=st.integers(0, 10))
@settings(max_examples=30)
def test_with_schedules_a_step_is_the_same_whenever_it_is_asked_for(seed: int, step: int) -> None:
    lengths, tokens = [3, 9, 1, 14, 7, 2, 8, 30, 5], TokenSettings(context=8)
    asked, other = (Batches(token_file(lengths), tokens, COURSE, seed) for _ in range(2))
    for earlier in (7, 0, 3):
        other.step(earlier)
    assert pairs_of(asked.step(step)) == pairs_of(other.step(step))


def test_with_schedules_an_epochs_end_is_seen_once_and_its_words_are_counted() -> None:
    settings = TrainingSettings.model_validate(COURSE.model_copy(update={"context_schedule": None}).model_dump())
    batches = Batches(token_file([5] * 40), LINES, settings, 5)
    ends = [step for step in range(batches.steps) if batches.ends_epoch(step)]
    assert len(ends) == 4 and ends[-1] == batches.steps - 1
    for epoch, step in enumerate(ends[:-1], start=1):
        assert batches.epochs_done(step + 1) <= epoch < batches.epochs_done(step + 2)
    assert 0.9 < batches.epochs_done(batches.steps) / 4 <= 1
    for steps in range(batches.steps + 1):
        lines = sum(len(batches.step(step).sequences) for step in range(steps))
        assert batches.words_seen(steps) == lines * 5, "each line has five words"


def test_with_schedules_every_line_is_seen_once_an_epoch() -> None:
    settings = TrainingSettings(batch_size=5, batch_size_schedule=((1, 0.3), (4, 0.6)), epochs=3)
    batches = Batches(token_file([2] * 50), LINES, settings, 5)
    seen = [sequence.example for step in range(batches.steps) for sequence in batches.step(step).sequences]
    assert sorted(seen[:50]) == sorted(seen[50:100]) == list(range(50))
    assert len(seen) > 140 and len(set(seen[100:])) == len(seen[100:])


@given(st.integers(1, 5_000))
def test_batches_have_few_sizes_and_little_filler(count: int) -> None:
    lengths = [count // 2, count - count // 2] if count > 1 else [1]
    sequences = [TokenSequence(np.zeros(length + 1, dtype=np.int64), 0) for length in lengths]
    batch = flat(sequences)
    size = len(batch.ids_N)
    assert size % 8 == 0 and count <= size <= max(count + 7, count + count // 32)
    assert int((batch.targets_N == IGNORE).sum()) == size - count
    assert sum(group.tokens for group in batch.layout.groups) == size
    assert size % (2 ** (size.bit_length() - 1) // 32 or 1) == 0, "at most 32 sizes between powers of two"
