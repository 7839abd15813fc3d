"""A model folder is opened as what it is, or refused with the reason; nothing of it runs unless the user allows it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from firstwords.errors import FirstwordsError
from firstwords.evaluation.hf_models import CausalModel, MaskedModel
from firstwords.evaluation.opening import fetch_model, folder_identity, is_hub_id, open_folder
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.subject import Subject, line_scores
from tests.evaluation.small_models import NAMES, SENTENCES, byte_level, model_of, save, tokenizer_of, wrapped

KINDS = {"gpt2": CausalModel, "llama": OwnModel, "bert": MaskedModel, "roberta": MaskedModel}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("originals")
    for kind in KINDS:
        tokenizer = tokenizer_of(kind)
        save(model_of(kind, len(tokenizer)), tokenizer, root / kind)
    return root


@pytest.fixture
def folder_of(originals: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a kind of model that a test may change."""
    return lambda kind: Path(shutil.copytree(originals / kind, tmp_path / kind))


FolderOf = Callable[[str], Path]


def configure(folder: Path, file: str = "config.json", **changes: Any) -> None:
    """Change keys of a JSON file; None takes a key away."""
    values = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def without(folder: Path, *names: str) -> None:
    """Take weights out of the file."""
    weights = load_file(folder / "model.safetensors")
    for name in names:
        del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def scores(subject: Subject) -> np.ndarray:
    return line_scores(subject, subject.reader.lines(SENTENCES, "both-sides"))


def refused(folder: Path, **options: Any) -> FirstwordsError:
    with pytest.raises(FirstwordsError) as caught:
        open_folder(folder, **options)
    assert caught.value.exit_code == 2
    assert str(folder) in (caught.value.where or "")
    return caught.value


@pytest.mark.parametrize(("kind", "expected"), KINDS.items())
def test_each_kind_is_opened_as_what_it_is(kind: str, expected: type, originals: Path) -> None:
    subject = open_folder(originals / kind)
    assert type(subject) is expected
    assert (subject.name, subject.dtype, subject.device) == (kind, "float32", "cpu")
    assert subject.facts["origin"] == str(originals / kind)
    assert (
        subject.facts["architecture"] == json.loads((originals / kind / "config.json").read_text())["architectures"][0]
    )
    named = open_folder(originals / kind, name="mine", origin="hub:me/mine@abc")
    assert (named.name, named.facts["name"], named.facts["origin"]) == ("mine", "mine", "hub:me/mine@abc")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_names_no_class_is_opened_by_its_kind(kind: str, originals: Path, folder_of: FolderOf) -> None:
    folder = folder_of(kind)
    configure(folder, architectures=None)
    subject = open_folder(folder)
    assert type(subject) is KINDS[kind], "a BERT read as a causal model would see what it is to predict"
    assert scores(subject).tolist() == scores(open_folder(originals / kind)).tolist()


def test_nothing_is_printed_while_a_model_is_opened(originals: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        open_folder(originals / kind)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_weights_in_several_files_are_the_same_model(kind: str, originals: Path, folder_of: FolderOf) -> None:
    folder = folder_of(kind)
    (folder / "model.safetensors").unlink()
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    model_of(kind, vocabulary).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-0*.safetensors"))) > 1
    np.testing.assert_allclose(scores(open_folder(folder)), scores(open_folder(originals / kind)), atol=1e-4)
    next(folder.glob("model-00002*.safetensors")).unlink()
    refused(folder)


def test_a_tied_head_need_not_be_in_the_file(originals: Path, tmp_path: Path, folder_of: FolderOf) -> None:
    assert not [name for name in load_file(originals / "gpt2" / "model.safetensors") if "head" in name]
    tokenizer = tokenizer_of("llama")
    tied = model_of("llama", len(tokenizer), tie_word_embeddings=True)
    folder = save(tied, tokenizer, tmp_path / "tied")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    ours = open_folder(folder)
    assert isinstance(ours, OwnModel)
    np.testing.assert_allclose(scores(ours), scores(CausalModel("theirs", tied, tokenizer)), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llama", "lm_head.weight"),
        ("bert", "cls.predictions.transform.dense.weight"),
        ("roberta", "lm_head.dense.bias"),
    ],
)
def test_a_missing_head_is_refused_not_made_up(kind: str, name: str, folder_of: FolderOf) -> None:
    folder = folder_of(kind)
    without(folder, name)
    assert name in refused(folder).what


def test_a_missing_head_is_refused_where_config_unties_it(folder_of: FolderOf) -> None:
    folder = folder_of("gpt2")
    configure(folder, tie_word_embeddings=False)
    assert "lm_head.weight" in refused(folder).what


def test_a_layer_that_is_missing_and_weights_of_another_shape_are_refused(folder_of: FolderOf) -> None:
    folder = folder_of("gpt2")
    configure(folder, n_layer=3)
    assert "transformer.h.2" in refused(folder).what
    for kind in ("llama", "bert"):
        folder = folder_of(kind)
        configure(folder, vocab_size=299 if kind == "llama" else 69)
        assert "of another shape than config.json tells" in refused(folder).what


@pytest.mark.parametrize(
    ("kind", "layers"), [("gpt2", "n_layer"), ("llama", "num_hidden_layers"), ("bert", "num_hidden_layers")]
)
def test_layers_that_the_configuration_does_not_tell_of_are_refused(
    kind: str, layers: str, folder_of: FolderOf
) -> None:
    folder = folder_of(kind)
    configure(folder, **{layers: 1})
    assert "layers that config.json does not tell of" in refused(folder).what


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\n", None])
def test_a_damaged_weights_file_is_refused(kind: str, data: bytes | None, folder_of: FolderOf) -> None:
    path = folder_of(kind) / "model.safetensors"
    # A pointer that stands for the file, or half of a download.
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if data is None else data)
    assert "header" in refused(path.parent).what


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder_of: FolderOf) -> None:
    folder = folder_of("gpt2")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    error = refused(folder)
    assert "pytorch_model.bin" in error.what
    assert "save_pretrained" in (error.do or "")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, folder_of: FolderOf) -> None:
    assert "no config.json" in refused(tmp_path).what
    with pytest.raises(FirstwordsError, match=r"no config\.json"):
        folder_identity(tmp_path)
    folder = folder_of("bert")
    (folder / "model.safetensors").unlink()
    assert refused(folder).what == "the folder has no weights"


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_a_tokenizer_is_refused(kind: str, folder_of: FolderOf) -> None:
    folder = folder_of(kind)
    (folder / "tokenizer.json").unlink()
    # transformers makes up an empty one, of special tokens alone, and would score every word as unknown.
    assert refused(folder).what == "the folder has no tokenizer"


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ['{"a": ', "[1]", ""])
def test_broken_json_is_refused(kind: str, file: str, text: str, folder_of: FolderOf) -> None:
    folder = folder_of(kind)
    (folder / file).write_text(text)
    refused(folder)


def test_a_file_of_an_unknown_form_is_refused(folder_of: FolderOf) -> None:
    for kind in ("gpt2", "bert"):
        folder = folder_of(kind)
        (folder / "tokenizer.json").write_text('{"model": 1}')
        assert "cannot load the model" in refused(folder).what


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = model_of("llama", 200)
    error = refused(save(model, wrapped(byte_level("<s> $A")), tmp_path / "larger"))
    assert "number 299, and the model knows 200 tokens" in error.what
    # A token that was added for padding, and is in no text, does no harm.
    tokenizer = wrapped(byte_level("<s> $A"), **(NAMES | {"pad_token": "[PADDING]"}))
    assert tokenizer.pad_token_id == 300
    subject = open_folder(save(model_of("llama", 300), tokenizer, tmp_path / "padded"))
    assert np.isfinite(scores(subject)).all()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}),
        ("gpt2", {"model_type": "nothing-known"}),
        ("bert", {"model_type": None}),
    ],
)
def test_a_model_of_an_unknown_kind_is_refused(kind: str, changes: dict[str, Any], folder_of: FolderOf) -> None:
    folder = folder_of(kind)
    configure(folder, **changes)
    assert "causal or masked" in (refused(folder).do or "")


CODE = """
import pathlib
from transformers import GPT2Config, GPT2LMHeadModel

pathlib.Path({proof!r}).write_text("the code ran")


class OddConfig(GPT2Config):
    model_type = "odd"


class OddModel(GPT2LMHeadModel):
    config_class = OddConfig
"""


def test_code_of_a_folder_runs_only_where_it_is_allowed(
    originals: Path, tmp_path: Path, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    # transformers keeps copies of such code.
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, proof = folder_of("gpt2"), tmp_path / "proof"
    (folder / "modeling_odd.py").write_text(CODE.format(proof=str(proof)))
    code = {"AutoConfig": "modeling_odd.OddConfig", "AutoModelForCausalLM": "modeling_odd.OddModel"}
    configure(folder, model_type="odd", auto_map=code, architectures=["OddModel"])
    error = refused(folder)
    assert "auto_map in config.json" in error.what
    assert "--allow-code" in (error.do or "")
    assert not proof.exists()
    subject = open_folder(folder, allow_code=True)
    assert proof.read_text() == "the code ran"
    assert (type(subject), subject.facts["class"]) == (CausalModel, "OddModel")
    assert scores(subject).tolist() == scores(open_folder(originals / "gpt2")).tolist()


def test_code_of_a_tokenizer_is_refused_too(folder_of: FolderOf) -> None:
    for kind in ("gpt2", "llama"):
        folder = folder_of(kind)
        configure(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tokenization_odd.OddTokenizer"]})
        assert "auto_map in tokenizer_config.json" in refused(folder).what


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "modeling_odd.py"]
)
def test_identity_changes_with_every_file_that_scores_depend_on(file: str, folder_of: FolderOf) -> None:
    folder = folder_of("gpt2")
    before = folder_identity(folder)
    (folder / "README.md").write_text("a card")
    assert folder_identity(folder) == before
    path = folder / file
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n")
    assert folder_identity(folder) != before


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("openai-community/gpt2", True),
        ("hub:me/my.model_2@v1.0", True),
        ("me/my@refs/pr/1", True),
        ("gpt2", False),
        ("a/b/c", False),
        ("./model", False),
        ("../a", False),
        ("/absolute/model", False),
        ("me/", False),
    ],
)
def test_what_can_be_an_id_on_the_hub(name: str, is_one: bool) -> None:
    assert is_hub_id(name) is is_one


def test_a_model_of_the_hub_that_is_not_kept_cannot_be_had_offline(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="the model nobody/nothing cannot be had") as caught:
        fetch_model("nobody/nothing@v1", tmp_path, offline=True)
    assert caught.value.where == "https://huggingface.co/nobody/nothing"
    assert "path of a folder" in (caught.value.do or "")
    with pytest.raises(FirstwordsError, match="'gpt2' is no id"):
        fetch_model("gpt2", tmp_path)


def test_a_model_of_the_hub_that_is_kept_is_found_offline(originals: Path, tmp_path: Path) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    kept = tmp_path / "models" / "models--me--mine"
    shutil.copytree(originals / "bert", kept / "snapshots" / revision)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(revision)
    folder, origin = fetch_model("me/mine", tmp_path, offline=True)
    assert origin == f"hub:me/mine@{revision}"
    assert isinstance(open_folder(folder, origin=origin), MaskedModel)
