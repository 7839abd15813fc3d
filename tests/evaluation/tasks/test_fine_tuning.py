"""Fine-tuning is the official procedure, step by step, on pairs that are read as the tokenizer frames them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.evaluation.reader import Reader
from firstwords.evaluation.tasks.fine_tuning import OFFICIAL, FineTuning, Rows, encode_pairs, fine_tune
from firstwords.tokens.tokenizer import Vocabulary


def test_pairs_are_read_with_the_tokenizers_own_special_tokens(vocabulary: Vocabulary) -> None:
    reader = Reader.of(vocabulary)
    rows = encode_pairs(reader, [("The cat sleeps.", "Some dogs run.")], 64)
    first, second = vocabulary.encode(["The cat sleeps.", "Some dogs run."])
    assert rows.ids[0].tolist() == [vocabulary.bos_id, *first, *second]
    assert rows.cut == 0


def test_long_pairs_are_cut_and_counted(vocabulary: Vocabulary) -> None:
    reader = Reader.of(vocabulary)
    long, short = "The cat sleeps near the tree. " * 10, "Some dogs run."
    first, second = vocabulary.encode([long, short])
    rows = encode_pairs(reader, [(long, short), (short, short), (short, long)], 40)
    assert rows.cut == 2
    kept = 40 - 1 - len(second)
    # The longer text loses its end; the shorter one stays whole.
    assert rows.ids[0].tolist() == [vocabulary.bos_id, *first[:kept], *second]
    assert rows.ids[2].tolist() == [vocabulary.bos_id, *second, *first[:kept]]
    assert reader.tokenizer.truncation is None


def test_the_learning_rate_rises_over_the_warm_up_and_falls_to_a_tenth() -> None:
    rates = [OFFICIAL.rate(step, 1_000) for step in range(1_001)]
    assert rates[0] == 0
    assert rates[30] == pytest.approx(1.5e-5)
    assert rates[60] == max(rates) == pytest.approx(3e-5)
    assert rates[530] == pytest.approx(3e-5 * (0.1 + 0.9 / 2))
    assert rates[1_000] == pytest.approx(3e-6)
    assert rates[:61] == sorted(rates[:61]) and rates[60:] == sorted(rates[60:], reverse=True)


class _Encoder(torch.nn.Module):
    """States that tell nothing but how often each token is in a row."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding, self.width, self.batches = torch.nn.Embedding(size, width), width, list[int]()

    def forward(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        if self.training:
            self.batches.append(len(rows))
        return torch.stack([self.embedding(torch.tensor(row)).mean(dim=0) for row in rows])


def test_an_incomplete_last_batch_is_not_trained_on_and_all_weights_move() -> None:
    torch.manual_seed(0)
    encoder = _Encoder(20, 8)
    before = encoder.embedding.weight.detach().clone()
    rows = Rows(tuple(np.array([1 + number % 19, 1 + number % 7]) for number in range(21)), 0)
    settings = FineTuning(epochs=3, batch=8, learning_rate=1e-2)
    found = fine_tune(encoder, rows, [number % 2 for number in range(21)], rows, settings, classes=2, name="toy")
    assert encoder.batches == [8] * 6
    assert [len(epoch.predictions) for epoch in found] == [21] * 3
    # The decay reaches even the row of a token that is in no text.
    assert not torch.equal(encoder.embedding.weight[0], before[0])
    assert torch.allclose(encoder.embedding.weight[0] / before[0], torch.tensor(1.0), atol=1e-2)


def test_training_is_the_official_procedure() -> None:
    """The same with torch's own scheduler and a plain loop: steps 0 to 8 of 9, the first with a learning rate of 0."""
    settings = FineTuning(epochs=3, batch=8, learning_rate=5e-2, warmup=0.3)
    rows = [[1 + number % 19, 1 + number % 7] for number in range(24)]
    labels = [number % 3 for number in range(24)]
    encoder = _Encoder(20, 8)
    plain = copy.deepcopy(encoder)
    read = Rows(tuple(np.array(row) for row in rows), 0)
    found = fine_tune(encoder, read, labels, read, settings, classes=3, name="toy")
    torch.manual_seed(42)
    head = torch.nn.Sequential(
        torch.nn.LayerNorm(8, 1e-5, elementwise_affine=False),
        torch.nn.Linear(8, 8),
        torch.nn.GELU(),
        torch.nn.LayerNorm(8, 1e-5, elementwise_affine=False),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(8, 3),
    )
    weights = [*plain.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=5e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)

    def factor(step: int) -> float:
        if step < 2:
            return step / 2
        return max(0.1, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 2) / (9 - 2))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for epoch in range(3):
        head.train()
        losses = []
        for batch in torch.randperm(24).split(8):
            logits = head(plain([rows[number] for number in batch]))
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels)[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        head.eval()
        assert found[epoch].loss == pytest.approx(np.mean(losses), rel=1e-5)
        assert found[epoch].predictions.tolist() == head(plain(rows)).argmax(dim=1).tolist()
    assert torch.allclose(encoder.embedding.weight, plain.embedding.weight, atol=1e-6)


def test_settings_that_train_nothing_are_refused() -> None:
    for name in ("epochs", "batch", "most_tokens"):
        with pytest.raises(FirstwordsError, match=f"{name} = 0"):
            FineTuning(**{name: 0})
