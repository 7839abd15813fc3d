"""Fine-tuning: a copy of the model learns, with a new head on it, to sort pairs of texts into classes.

Rules and defaults are those of BabyLM's pipeline of 2025 (github.com/babylm/evaluation-pipeline-2025:
eval_finetuning.sh and evaluation_pipeline/finetune). It neither clips gradients nor spares any weight the decay.

Shape letters: B rows of a batch, D width of the model, L classes, I items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.evaluation.reader import Reader
from firstwords.evaluation.subject import Progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PAIRS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How the model is trained; the defaults are official ones. Raises FirstwordsError for what cannot be."""

    epochs: int = 10
    batch: int = 32
    """Pairs of texts in a step; what is left over at the end of an epoch is not trained on."""
    learning_rate: float = 3e-5
    """The highest, which is reached after the warm-up."""
    warmup: float = 0.06
    """Share of the steps in which the learning rate rises from 0."""
    last_rate: float = 0.1
    """The last learning rate, to which a half cosine falls, as a share of the highest."""
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    adam_epsilon: float = 1e-8
    head_dropout: float = 0.1
    head_norm_epsilon: float = 1e-5
    most_tokens: int = 512
    """In a pair with its special tokens; longer ones are cut. The model's own positions may be fewer."""
    seed: int = 42
    """Of the head's first weights, the order of the pairs, and dropout."""
    scored_at_once: int = 64
    """Pairs in a batch that is only scored."""

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing can be trained."""
        for name in ("epochs", "batch", "most_tokens", "scored_at_once"):
            if getattr(self, name) < 1:
                raise FirstwordsError(f"{name} = {getattr(self, name)} is less than 1", where="fine-tuning")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of `step`, counted from 0, of `steps`: a linear warm-up from 0, then a half cosine."""
        rising = int(self.warmup * steps)
        if step < rising:
            return self.learning_rate * step / rising
        fallen = (step - rising) / max(1, steps - rising)
        share = self.last_rate + (1 - self.last_rate) * 0.5 * (1 + math.cos(math.pi * fallen))
        return self.learning_rate * share


OFFICIAL = FineTuning()
"""The settings of most tasks of BabyLM's pipeline of 2025."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Pairs of texts as a model reads them. cut: how many were longer and lost their end."""

    ids: tuple[np.ndarray, ...]
    cut: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """One time through the training pairs. loss: mean cross-entropy of its steps, nats. predictions: classes, (I,)."""

    loss: float
    predictions: np.ndarray


def encode_pairs(reader: Reader, pairs: Sequence[tuple[str, str]], most_tokens: int) -> Rows:
    """Pairs with the special tokens that the tokenizer itself puts around two texts, of `most_tokens` at most.

    A row that is longer loses tokens at the end of the longer text, and of both once they are equally long.
    """
    from tokenizers import Tokenizer

    # The reader's own tokenizer must never cut.
    tokenizer = Tokenizer.from_str(reader.tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(most_tokens, strategy="longest_first")
    ids: list[np.ndarray] = []
    cut = 0
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        for encoding in tokenizer.encode_batch(list(pairs[start : start + _PAIRS_AT_ONCE])):
            ids.append(np.array(encoding.ids, np.int32))
            cut += bool(encoding.overflowing)
    return Rows(tuple(ids), cut)


def fine_tune(
    encoder: torch.nn.Module,
    train: Rows,
    labels: Sequence[int],
    scored: Rows,
    settings: FineTuning,
    *,
    classes: int,
    name: str,
    progress: Progress | None = None,
) -> list[Epoch]:
    """Train `encoder` (of `Subject.encoder`, changed in place) with a head of `classes`; what it says of `scored`.

    labels: of the training pairs. name: for messages. progress: told of pairs trained on.
    Two runs agree to the last bit on a CPU; the random state of torch is afterwards as it was.
    Raises FirstwordsError for less than a batch of training pairs, and with exit code 3 for numbers not finite.
    """
    import torch

    steps_an_epoch = len(train.ids) // settings.batch
    if not steps_an_epoch:
        raise FirstwordsError(
            f"there are {len(train.ids)} training items, less than one batch of {settings.batch}",
            where=name,
            do="use the whole training file",
        )
    steps, found = settings.epochs * steps_an_epoch, list[Epoch]()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(settings.seed)
        classifier = _classifier(encoder, classes, settings)
        optimizer = torch.optim.AdamW(
            classifier.parameters(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
        )
        for epoch in range(settings.epochs):
            classifier.train()
            order = torch.randperm(len(train.ids)).tolist()
            losses: list[Tensor] = []
            for step in range(steps_an_epoch):
                done = epoch * steps_an_epoch + step
                for group in optimizer.param_groups:
                    group["lr"] = settings.rate(done, steps)
                batch = order[step * settings.batch : (step + 1) * settings.batch]
                losses.append(_step(classifier, optimizer, train, labels, batch))
                if progress:
                    progress((done + 1) * settings.batch, steps * settings.batch)
            loss = float(torch.stack(losses).mean())
            predictions = _predictions(classifier, scored, settings.scored_at_once)
            if not math.isfinite(loss) or predictions is None:
                raise FirstwordsError(
                    f"in epoch {epoch + 1} of fine-tuning the model gives numbers that are not finite",
                    where=name,
                    do="no accuracy can be told from this model: its weights are damaged or fine-tuning diverged",
                    exit_code=3,
                )
            found.append(Epoch(loss, predictions))
    return found


def _classifier(encoder: torch.nn.Module, classes: int, settings: FineTuning) -> torch.nn.Module:
    """Rows of ids -> logits of the classes, (B, L). The norms of the head have no weights of their own."""
    from torch import nn

    width: int = encoder.width  # type: ignore[assignment]
    head = nn.Sequential(
        nn.LayerNorm(width, settings.head_norm_epsilon, elementwise_affine=False),
        nn.Linear(width, width),
        nn.GELU(),
        nn.LayerNorm(width, settings.head_norm_epsilon, elementwise_affine=False),
        nn.Dropout(settings.head_dropout),
        nn.Linear(width, classes),
    )
    return nn.Sequential(encoder, head.to(next(encoder.parameters()).device))


def _step(
    classifier: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Rows,
    labels: Sequence[int],
    batch: Sequence[int],
) -> Tensor:
    """One step on the pairs of `batch`; their mean loss, left where it is: asking for its number would wait for it."""
    import torch

    optimizer.zero_grad()
    logits_BL = classifier([train.ids[number].tolist() for number in batch])
    labels_B = torch.tensor([labels[number] for number in batch], device=logits_BL.device)
    loss = torch.nn.functional.cross_entropy(logits_BL, labels_B)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _predictions(classifier: torch.nn.Module, scored: Rows, at_once: int) -> np.ndarray | None:
    """The likeliest class of each pair, the first where several are, (I,); None where a logit is not finite."""
    import torch

    classifier.eval()
    found_I = np.empty(len(scored.ids), np.int64)
    # Neighbours of one length need no filling up; what a pair is read with does not change what is said of it.
    order = sorted(range(len(scored.ids)), key=lambda number: len(scored.ids[number]))
    with torch.no_grad():
        for start in range(0, len(order), at_once):
            batch = order[start : start + at_once]
            logits_BL = classifier([scored.ids[number].tolist() for number in batch])
            if not logits_BL.isfinite().all():
                return None
            found_I[batch] = logits_BL.argmax(dim=1).cpu().numpy()
    return found_I
