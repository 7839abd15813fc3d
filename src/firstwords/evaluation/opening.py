"""From a folder or the Hugging Face Hub to a model under test; nothing of it is executed, and no pickle is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from firstwords.errors import FirstwordsError
from firstwords.evaluation.hf_models import CausalModel, MaskedModel
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.reader import Reader
from firstwords.model.hub import load_llama
from firstwords.model.llama import Llama
from firstwords.run_folder import fingerprint_of, sha256_of

if TYPE_CHECKING:
    from firstwords.data.download import Say
    from firstwords.evaluation.subject import Subject

_HUB_ID = re.compile(r"(hub:)?(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")
_KEPT = ["*.json", "*.safetensors", "*.txt", "*.model", "*.py", "README.md"]
"""Files of a model on the Hub that are downloaded; Python files too, which only run where the user allows it."""
_OF_SCORES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")
"""Files of a model folder that its scores depend on."""
_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "tf_model.h5", "flax_model.msgpack")


def is_hub_id(name: str) -> bool:
    """Whether a name can be `owner/name`, `owner/name@revision` or `hub:owner/name`."""
    return _HUB_ID.fullmatch(name) is not None


def folder_identity(folder: Path) -> str:
    """Checksum of all that a model folder's scores depend on. Raises FirstwordsError where it has no config.json."""
    _config(folder)
    files = sorted(path for pattern in _OF_SCORES for path in folder.glob(pattern))
    return fingerprint_of("model folder", {path.name: sha256_of(path) for path in files})


def open_folder(
    folder: Path, *, device: str = "cpu", allow_code: bool = False, name: str | None = None, origin: str | None = None
) -> Subject:
    """The model of a Hugging Face folder: a plain LLaMA on the fast path, any other through transformers.

    device: cpu, cuda or mps. allow_code: run the Python files of the folder, where its configuration asks for that.
    origin: where the folder is from, for the results. Raises FirstwordsError for a folder that is incomplete, has its
    weights as a pickle only, wants to run code of its own, or whose model is neither causal nor masked.
    """
    config = _config(folder)
    _refuse_code(config, folder, allow_code)
    _refuse_pickles(folder)
    _refuse_no_tokenizer(folder, allow_code)
    name = name or folder.name
    facts = {"origin": origin or str(folder), "architecture": _architecture(config)}
    with _explained(folder, config):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=allow_code, local_files_only=True)
        reader = Reader.of_transformers(tokenizer, str(folder))
        own = _open_llama(folder) if config.get("model_type") == "llama" and not config.get("auto_map") else None
        if own is not None:
            _check_ids(reader, own.vocabulary, folder)
            return OwnModel(name, own.to(device), reader, facts)
        masked = _is_masked(config)
        model = _load_weights(folder, masked, allow_code)
        _check_ids(reader, model.get_input_embeddings().weight.shape[0], folder)
        return (MaskedModel if masked else CausalModel)(name, model.to(device), tokenizer, facts)


def _open_llama(folder: Path) -> Llama | None:
    """A plain LLaMA; None where something is not plain, such as scaled positions or weights in several files."""
    try:
        return load_llama(folder)
    except FirstwordsError:
        return None


def _is_masked(config: dict[str, Any]) -> bool:
    """Whether the model predicts masked tokens: its class says so, or its kind does where no class is named."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    architecture, code = _architecture(config), config.get("auto_map") or {}
    if "MaskedLM" in architecture or architecture.endswith("ForPreTraining"):
        return True
    if architecture.endswith(("ForCausalLM", "LMHeadModel")) or "AutoModelForCausalLM" in code:
        return False
    known = config.get("model_type") in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "AutoModelForMaskedLM" in code or (known and not config.get("is_decoder"))


def _check_ids(reader: Reader, rows: int, folder: Path) -> None:
    """Refuse a tokenizer with more tokens than the model has: it is another model's, or was added to.

    Added tokens that texts do not reach, such as one for padding, are none of that.
    """
    ids = reader.tokenizer.get_vocab(with_added_tokens=False)
    specials = (reader.bos_id, reader.eos_id, reader.mask_id, *reader.before, *reader.after)
    largest = max([*ids.values(), *(number for number in specials if number is not None)], default=0)
    if largest >= rows:
        raise FirstwordsError(
            f"the tokenizer has the token {reader.tokenizer.id_to_token(largest)!r} as number {largest:,}, "
            f"and the model knows {rows:,} tokens, numbered from 0",
            where=str(folder),
            do="put the model's own tokenizer.json and tokenizer_config.json there",
        )


def _load_weights(folder: Path, masked: bool, allow_code: bool) -> Any:
    import transformers

    kind: Any = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    model, loading = kind.from_pretrained(
        folder,
        trust_remote_code=allow_code,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,
    )
    # transformers fills what is missing with random numbers, and the scores would be those of another model.
    missing, other = sorted(loading["missing_keys"]), sorted(loading["mismatched_keys"])
    if other:
        weight, stored, expected = other[0]
        raise FirstwordsError(
            f"the weights are of another shape than config.json tells: {weight} is {tuple(stored)}, "
            f"not {tuple(expected)}",
            where=str(folder),
            do="put the config.json there that the weights were saved with",
        )
    if layers := _unknown_layers(model, loading["unexpected_keys"]):
        raise FirstwordsError(
            f"the weights have layers that config.json does not tell of, such as {layers[0]}",
            where=str(folder),
            do="put the config.json there that the weights were saved with",
        )
    if missing:
        raise FirstwordsError(
            f"the weights file lacks {len(missing)} of the model's weights, such as {missing[0]}",
            where=str(folder),
            do="export the model again with its language modelling head",
        )
    return model


def _unknown_layers(model: Any, unexpected: Iterable[str]) -> list[str]:
    """Numbered parts among weights that were not used of which the model has nothing; other heads are no part of it."""
    known = {match[0] for name in model.state_dict() if (match := _NUMBERED.match(name))}
    found = {match[0] for name in unexpected if (match := _NUMBERED.match(name))}
    stacks = {re.sub(r"\d+$", "", layer) for layer in known}
    return sorted(layer for layer in found - known if re.sub(r"\d+$", "", layer) in stacks)


_NUMBERED = re.compile(r".*?\.\d+(?=\.)")


@contextmanager
def _explained(folder: Path, config: dict[str, Any]) -> Iterator[None]:
    """Turn what transformers raises for a folder into one clear message, and keep its own remarks quiet."""
    import transformers

    logging = transformers.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except FirstwordsError:
        raise
    except Exception as error:  # tokenizers and safetensors raise types of their own, and a folder's code any
        lines = (line.strip() for line in str(error).splitlines())
        raise FirstwordsError(
            f"transformers cannot load the model: {next(filter(None, lines), type(error).__name__)}",
            where=f"{folder} ({config.get('model_type', 'no model_type')})",
            do="it needs config.json, safetensors weights and a tokenizer of a causal or masked language model",
        ) from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def fetch_model(name: str, cache: Path, *, offline: bool = False, say: Say | None = None) -> tuple[Path, str]:
    """Download `owner/name[@revision]` into `cache`; its folder, and the address with the revision's full hash.

    Only configuration, tokenizer and safetensors files come; the Hub's client resumes and checks them.
    Raises FirstwordsError where it is not there, and where the model has no safetensors.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    match = _HUB_ID.fullmatch(name)
    if match is None:
        raise FirstwordsError(
            f"'{name}' is no id of the Hugging Face Hub", do="write it as owner/name or owner/name@tag"
        )
    repository, revision = match["id"], match["revision"]
    try:
        if not offline:
            info = HfApi().model_info(repository, revision=revision)
            _refuse_pickled_hub(repository, [file.rfilename for file in info.siblings or ()])
            revision = info.sha
            if say:
                license = getattr(info.card_data, "license", None) or "none stated"
                say(f"downloading {repository} (revision {revision}); license: {license}")
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache / "models",
            allow_patterns=_KEPT,
            # The model itself lies at the top; folders hold other formats of it.
            ignore_patterns=["*/*"],
            local_files_only=offline,
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FirstwordsError(
            f"the model {repository} cannot be had: {(str(error).strip().splitlines() or ['no answer'])[0]}",
            where=f"https://huggingface.co/{repository}",
            do="check the id and the connection, or give the path of a folder that holds the model",
        ) from None
    return Path(folder), f"hub:{repository}@{Path(folder).name}"


def _refuse_pickled_hub(repository: str, files: list[str]) -> None:
    if any(file.endswith(".safetensors") and "/" not in file for file in files):
        return
    raise FirstwordsError(
        f"the model {repository} has no safetensors weights, and pickles are never opened: they can run code",
        where=f"https://huggingface.co/{repository}",
        do=_CONVERT,
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FirstwordsError(
            "the folder holds no model: it has no config.json",
            where=str(folder),
            do="give a Hugging Face folder with config.json, model.safetensors and tokenizer.json",
        ) from None
    except (OSError, ValueError) as error:
        raise FirstwordsError(f"config.json cannot be read: {error}", where=str(folder / "config.json")) from None
    if not isinstance(config, dict):
        raise FirstwordsError("config.json is no JSON object", where=str(folder / "config.json"))
    return config


def _architecture(config: dict[str, Any]) -> str:
    return str((config.get("architectures") or [config.get("model_type", "unknown")])[0])


def _refuse_code(config: dict[str, Any], folder: Path, allow_code: bool) -> None:
    asked = [folder / name for name in ("config.json", "tokenizer_config.json")]
    wants = [path.name for path in asked if path.is_file() and '"auto_map"' in path.read_text(encoding="utf-8")]
    if wants and not allow_code:
        raise FirstwordsError(
            f"the model wants to run Python code of its own (auto_map in {', '.join(wants)})",
            where=str(folder),
            do="read that code, and allow it with --allow-code if you trust it",
        )


_CONVERT = (
    "convert them once on a machine that you can afford to lose: "
    "AutoModelForCausalLM.from_pretrained(...).save_pretrained(..., safe_serialization=True)"
)


def _refuse_pickles(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise FirstwordsError(
            f"the weights are a pickle ({pickles[0]}), and pickles are never opened: they can run code",
            where=str(folder),
            do=_CONVERT,
        )
    raise FirstwordsError(
        "the folder has no weights",
        where=str(folder),
        do="it needs model.safetensors (or model-00001-of-....safetensors)",
    )


def _refuse_no_tokenizer(folder: Path, allow_code: bool) -> None:
    """Without its files, transformers makes up an empty tokenizer that knows no word at all."""
    if allow_code and any(folder.glob("*.py")):
        return
    if not any(path for pattern in _TOKENIZERS for path in folder.glob(pattern)):
        raise FirstwordsError(
            "the folder has no tokenizer",
            where=str(folder),
            do="put tokenizer.json and tokenizer_config.json of the model there",
        )
