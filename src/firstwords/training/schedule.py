"""Step -> learning rate; words seen -> which checkpoint is due."""

from __future__ import annotations

import math

from firstwords.settings import TrainingSettings


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Learning rate of optimizer step `step` (from 0) of `steps`.

    Linear warm-up from 0, then the schedule down to `final_lr_share` of the peak. With the cosine and no warm-up at
    step 0 this is transformers' `get_cosine_schedule_with_warmup`, which made the cards. Sources: warmup-stable-decay
    from Hu et al. 2024 (MiniCPM, arXiv:2404.06395), its fall as 1 - sqrt from Hägele et al. 2024 (arXiv:2405.18392).
    """
    if step < settings.warmup_steps:
        return settings.peak_lr * step / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    if settings.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * done))
    elif settings.schedule == "linear":
        share = 1 - done
    else:
        share = min(1.0, (1 - step / steps) / settings.decay_share) if settings.decay_share else 1.0
        if settings.decay_shape == "1-sqrt":
            share = 1 - math.sqrt(1 - share)
    return settings.peak_lr * (settings.final_lr_share + (1 - settings.final_lr_share) * share)


_MILLION = 1_000_000
_BABYLM_WORDS = tuple(million * _MILLION for million in (*range(1, 10), *range(10, 100, 10), *range(100, 1_001, 100)))


def checkpoint_words(settings: TrainingSettings) -> tuple[int, ...]:
    """Counts of words seen at which a model is kept, ascending. Source of `babylm`: the 2025 challenge's rules."""
    if settings.checkpoint_words == "none":
        return ()
    if settings.checkpoint_words == "babylm":
        return _BABYLM_WORDS
    return tuple(sorted(settings.checkpoint_words))


def checkpoint_name(words: int) -> str:
    """`words-0001M` for a million words seen, `words-1500` where they are no whole millions."""
    millions, rest = divmod(words, _MILLION)
    return f"words-{words}" if rest else f"words-{millions:04d}M"


def checkpoints_due(words_before: int, words_after: int, settings: TrainingSettings) -> tuple[int, ...]:
    """The kept counts that a step from `words_before` to `words_after` words seen passes."""
    return tuple(words for words in checkpoint_words(settings) if words_before < words <= words_after)
