"""Settings that contradict each other are refused by name, before anything is made."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.settings import ModelSettings, TokenSettings, TrainingSettings, check_training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"muon-lr": "0.02"}, "muon-lr says something only with optimizer"),
        ({"muon-momentum": "0.9"}, "muon-momentum says something only with optimizer"),
        ({"muon-nesterov": "false"}, "muon-nesterov says something only with optimizer"),
        ({"muon-scale": "original"}, "muon-scale says something only with optimizer"),
        ({"muon-steps": "7"}, "muon-steps says something only with optimizer"),
        ({"optimizer": "lion"}, "training.optimizer"),
        ({"optimizer": "muon", "muon-steps": "0"}, "muon-steps"),
        ({"decay-shape": "1-sqrt"}, "decay-shape says something only with schedule"),
        ({"select": "ema"}, "needs ema-decay"),
        ({"ema-decay": "1"}, "ema-decay"),
        ({"z-loss": "-1e-4"}, "z-loss"),
        ({"weight-decay-norms": "-0.1"}, "weight-decay-norms"),
        ({"decay-embeddings": "true", "weight-decay-head": "0.1"}, "not both"),
        ({"batch-size-schedule": "[[8, 0.5], [16, 0.2]]"}, "shares of batch-size-schedule must rise"),
        ({"batch-size-schedule": "[[8, 0.5], [16, 0.5]]"}, "shares of batch-size-schedule must rise"),
        ({"batch-size-schedule": "[[8, 1.0]]"}, "batch-size-schedule"),
        ({"batch-size-schedule": "[[0, 0.5]]"}, "batch-size-schedule"),
        ({"batch-size-schedule": "[]"}, "batch-size-schedule"),
        ({"batch-size-schedule": "8"}, "batch-size-schedule"),
        ({"context-schedule": "[[64, 0.5], [32, 0.4]]"}, "shares of context-schedule must rise"),
    ],
)
def test_a_contradiction_is_one_clear_error(settings: dict[str, str], message: str) -> None:
    with pytest.raises(FirstwordsError, match=message) as found:
        Recipe.load("quickstart").override({f"training.{key}": value for key, value in settings.items()})
    assert "training" in (found.value.where or "")


def test_a_vocabulary_has_room_for_all_bytes() -> None:
    small = {"tokenizer.vocabulary": "255"}
    with pytest.raises(FirstwordsError, match="256 entries or more") as found:
        Recipe.load("quickstart").override(small)
    assert "tokenizer" in str(found.value.where)
    assert Recipe.load("quickstart").override(small | {"tokenizer.all-bytes": "false"}).tokenizer.vocabulary == 255


def test_every_choice_survives_the_recipe_file() -> None:
    settings = {
        "optimizer": "muon", "muon-lr": "0.02", "muon-scale": "original", "muon-momentum": "0.9",
        "muon-nesterov": "false", "muon-steps": "6", "schedule": "constant-decay", "decay-shape": "1-sqrt",
        "weight-decay-embeddings": "0.01", "weight-decay-norms": "0.02", "z-loss": "1e-4",
        "ema-decay": "0.99", "select": "ema", "batch-size-schedule": "[[8, 0.1], [16, 0.3]]",
        "context-schedule": "[[32, 0.2]]",
    }  # fmt: skip
    recipe = Recipe.load("quickstart").override({f"training.{key}": value for key, value in settings.items()})
    again = Recipe.parse(recipe.to_toml().encode(), "recipe.toml")
    assert again == recipe
    assert again.training.batch_size_schedule == ((8, 0.1), (16, 0.3))
    assert again.training.schedule == "warmup-stable-decay"


@pytest.mark.parametrize(
    ("training", "tokens", "model", "message"),
    [
        ({"context_schedule": [[8, 0.5]]}, {"examples": "lines"}, {}, 'needs tokens.examples = "packed"'),
        ({"context_schedule": [[8, 0.5], [600, 0.6]]}, {}, {}, "rows of 600 tokens, longer than tokens.context"),
        ({"context_schedule": [[1, 0.5]]}, {}, {}, "less than 2 tokens"),
        ({"weight_decay_head": 0.1}, {}, {"tied_embeddings": True}, "give weight-decay-embeddings"),
    ],
)
def test_what_training_cannot_do_with_such_tokens_or_such_a_model_is_refused(
    training: dict[str, object], tokens: dict[str, object], model: dict[str, object], message: str
) -> None:
    asked = TrainingSettings.model_validate(training)
    with pytest.raises(ValueError, match=message):
        check_training(asked, TokenSettings.model_validate(tokens), ModelSettings.model_validate(model))
    check_training(TrainingSettings(), TokenSettings.model_validate(tokens), ModelSettings.model_validate(model))


def test_settings_stay_frozen() -> None:
    with pytest.raises(ValidationError):
        TrainingSettings().z_loss = 1.0  # type: ignore[misc]
