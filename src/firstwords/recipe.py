"""Every setting of an experiment: frozen, typed, named in TOML as in the code (with hyphens).

`Recipe.load("model-b")` reads a bundled recipe, `Recipe.load("my.toml")` a file of one's own;
`recipe.override({"training.peak-lr": "1e-3"})` gives a changed copy, `recipe.to_toml()` the whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from firstwords.budget import Budget
from firstwords.errors import FirstwordsError, did_you_mean

BudgetField = Annotated[
    Budget,
    BeforeValidator(Budget.parse, json_schema_input_type=str),
    PlainSerializer(lambda b: b.text, return_type=str),
]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """Base of all groups of settings: frozen, unknown keys refused, hyphens in TOML."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )


class SourceSettings(Settings):
    """A named origin of documents."""

    at: str | None = None
    """Where the text is: a path (file, folder, .gz, .zip, .jsonl), an http(s) address,
    `hub:owner/repo[@revision]/file`, `grammar:<register>`, or nothing: then found by the source's name under --data, else in the catalogue.
    `catalogue:<entry>` (as in `catalogue:babylm-2026/childes`) names another entry to download."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the budget relative to the other sources."""
    documents: Literal["blank-lines", "headings", "lines", "files"] = "blank-lines"
    """What borders a document: blank lines, wiki headings (`= = = Title = = =`), nothing (whole lines are gathered to
    `document-bytes`), or the file itself. A line of JSONL is always one document."""
    document_bytes: Positive = 4096
    """Size in bytes to which lines are gathered where documents = "lines"."""
    rules: tuple[str, ...] = ()
    """Names of cleaning rules, applied in this order."""
    text_key: str = "text"
    """Key of the text in JSONL."""
    sha256: str | None = None
    """Expected checksum of a downloaded file."""
    license: str | None = None
    """License of the text; the catalogue's where it knows the source."""


class CorpusSettings(Settings):
    """From sources to one training text and one dev text."""

    sources: dict[str, SourceSettings] = Field(min_length=1)
    """Sources by name; their order is the order of the round-robin."""
    budget: BudgetField
    """How much training text there may be; never exceeded."""
    mix: Literal["documents", "chunks"] = "documents"
    """Round-robin by whole documents, or by raw chunks of bytes (how the published cards were made; no cleaning)."""
    chunk_bytes: Positive = 262_144
    """Size of a raw chunk where mix = "chunks"."""
    order: Literal["shuffled", "source"] = "shuffled"
    """Which documents are taken: a random choice by the seed, or the first of each source."""
    short_sources: Literal["error", "redistribute", "accept"] = "error"
    """A source smaller than its share is an error, or others fill its lack, or the corpus just gets smaller."""
    dev_budget: BudgetField | None = None
    """Size of the dev text made of whole documents that the training text does not have."""
    dev_file: str | None = None
    """A dev text of its own: a path, or a file name found under --data."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.dev_budget is None) == (self.dev_file is None):
            raise ValueError("give exactly one of dev-budget and dev-file")
        if self.mix == "chunks" and self.budget.unit != "bytes":
            raise ValueError('mix = "chunks" needs a budget in bytes')
        if self.mix == "chunks" and self.dev_file is None:
            raise ValueError('mix = "chunks" has no documents to hold out: give a dev-file')
        if self.dev_budget is not None and self.dev_budget.unit != self.budget.unit:
            raise ValueError("budget and dev-budget must both be in bytes or both in words")
        return self


class TokenizerSettings(Settings):
    """A ByteLevel BPE learnt from the training text."""

    vocabulary: Positive = 16_000
    """Entries that BPE learns; the special tokens come on top."""
    normalizer: tuple[Literal["nfc", "nfd", "nfkc", "lowercase", "strip"], ...] = ("nfc",)
    """Steps applied to every text before it is cut into tokens."""
    all_bytes: bool = True
    """Start from all 256 bytes, so that any text can be encoded; the cards start from the bytes seen."""
    prefix_space: bool = False
    """Put a space before the first word of a text, so that it is the same token as elsewhere."""
    min_frequency: Annotated[int, Field(ge=0)] = 2
    """How often a pair must be seen to be merged."""
    bos: str = "<s>"
    """Token before the first of a document; may be the same as eos."""
    eos: str = "</s>"
    """Token after the last of a document."""
    pad: str = "<pad>"
    """Token that fills up; never a target."""


class TokenSettings(Settings):
    """From text to rows of token ids."""

    examples: Literal["packed", "lines"] = "packed"
    """Documents packed to rows of the context length, or one line of text as one example."""
    context: Annotated[int, Field(ge=2)] = 512
    """Tokens in a row, or the most in an example (longer lines are cut into pieces)."""
    add_bos: bool = True
    """Begin every document (or line) with BOS."""
    add_eos: bool = True
    """End every document (or line) with EOS."""
    cross_documents: bool = False
    """In packed rows, let a token attend to the documents before its own."""


class ModelSettings(Settings):
    """The shape of the LLaMA."""

    hidden: Positive = 384
    """Width of the residual stream."""
    layers: Positive = 6
    """Number of transformer blocks."""
    heads: Positive = 6
    """Query heads of each attention."""
    kv_heads: Positive | None = None
    """Key and value heads; as many as heads where not given."""
    intermediate: Positive = 1_536
    """Width of the SwiGLU feed-forward layer."""
    positions: Positive = 512
    """Longest context that the model declares."""
    tied_embeddings: bool = False
    """Use one matrix for input and output embeddings."""
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    """Base of the rotary position embedding."""
    rms_norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    """Term that keeps RMSNorm finite."""
    init_std: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the initial weights."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the embeddings and on what each block adds to the residual stream."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError("hidden must be heads times an even head size")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError("heads must be a multiple of kv-heads")
        return self


class TrainingSettings(Settings):
    """How the model is trained."""

    epochs: Annotated[float, Field(gt=0)] = 5
    """Passes over the training text."""
    max_steps: Positive | None = None
    """Stop after this many optimizer steps, whatever `epochs` says."""
    batch_size: Positive = 16
    """Rows (or lines) in a batch."""
    accumulation: Positive = 1
    """Batches in one optimizer step. How a step is cut for memory is the tool's choice and changes no result."""
    peak_lr: Annotated[float, Field(gt=0)] = 3e-4
    """Highest learning rate."""
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    """Steps of linear warm-up from 0."""
    schedule: Literal["cosine", "linear", "constant-decay"] = "cosine"
    """Course of the learning rate after the warm-up."""
    decay_share: Fraction = 0.2
    """Share of all steps in which `constant-decay` falls at the end."""
    final_lr_share: Fraction = 0.0
    """Learning rate at the last step as a share of the peak."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW: decay of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW: decay of the second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW: term that keeps the step finite."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW: decoupled decay of the matrices; norms are never decayed."""
    decay_embeddings: bool = False
    """Apply the weight decay to the embeddings too."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient."""
    loss_mean_over: Literal["targets", "tokens"] = "targets"
    """What a step's summed loss is divided by: the tokens predicted, or (the cards) all tokens."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the matrix products; weights stay float32. fp16 (with loss scaling) needs CUDA and is bf16 elsewhere."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute activations to save memory; changes no result."""
    eval_every_steps: Positive | None = None
    """Steps between dev losses; at the end of each epoch where not given."""
    log_every_steps: Positive = 25
    """Steps between lines of losses.csv; metrics.jsonl has every step."""
    checkpoint_words: Literal["none", "babylm"] | tuple[Positive, ...] = "none"
    """Words seen at which a model is kept: BabyLM's 1-9M, 10-90M, 100-1000M, or a list."""
    resume_minutes: Annotated[float, Field(gt=0)] = 5.0
    """Minutes between saves of the whole state from which a killed run goes on."""
    select: Literal["last", "best"] = "last"
    """Which model is evaluated and exported: after the last step, or with the lowest dev loss."""


class EvaluationSettings(Settings):
    """What is measured."""

    suites: tuple[str, ...] = ("blimp.firstwords",)
    """`<suite>.<protocol>` each, as in `blimp.firstwords`, `blimp-fast.card`, `grammar.firstwords`."""
    untrained_control: bool = False
    """Score the initial weights too: they must be at chance."""


class ExportSettings(Settings):
    """What the Hugging Face folder says of itself."""

    license: str = "mit"
    """License of the weights, as a Hugging Face identifier."""
    prompts: tuple[str, ...] = ("The researchers conducted an experiment to",)
    """Beginnings for the samples on the model card."""


class Recipe(Settings):
    """One experiment, complete. The same recipe on the same text and machine gives the same model."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """Names the run folder: letters, digits, '.', '_' and '-'."""
    description: str = ""
    """One line for `firstwords recipes` and the model card."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """All randomness comes from it."""
    corpus: CorpusSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    tokens: TokenSettings = TokenSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    export: ExportSettings = ExportSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tokens.context > self.model.positions:
            raise ValueError(
                f"tokens.context ({self.tokens.context}) is longer than model.positions ({self.model.positions})"
            )
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> Recipe:
        """Read a bundled recipe by name or a TOML file by path.

        Raises FirstwordsError for a recipe that is not there, is no TOML, or has a wrong or unknown key.
        """
        name = str(name_or_path)
        if name.endswith(".toml") or "/" in name:
            path = Path(name)
            if not path.is_file():
                raise FirstwordsError(
                    f"there is no recipe file {name}",
                    where=str(path.absolute()),
                    do="check the path; `firstwords recipes` lists the bundled ones",
                )
            return cls.parse(path.read_bytes(), origin=name)
        if name not in bundled_names():
            hint = did_you_mean(name, bundled_names())
            raise FirstwordsError(
                f"there is no bundled recipe '{name}'",
                where="bundled: " + ", ".join(bundled_names()),
                do=hint or "name one of them, or a file that ends in .toml",
            )
        return cls.parse(_bundled_folder().joinpath(f"{name}.toml").read_bytes(), origin=f"{name}.toml")

    @classmethod
    def parse(cls, toml: bytes, origin: str) -> Recipe:
        """A recipe from the bytes of its TOML; `origin` names it in errors."""
        try:
            values = tomllib.loads(toml.decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FirstwordsError(
                f"the recipe is no valid TOML: {error}", where=origin, do="correct the file at that place"
            ) from None
        return cls.build(values, origin)

    @classmethod
    def build(cls, values: Mapping[str, Any], origin: str) -> Recipe:
        """A recipe from nested values; every problem becomes one FirstwordsError that names the key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _explain(error, origin) from None

    def override(self, settings: Mapping[str, str], origin: str = "the command line") -> Recipe:
        """A copy with dotted keys set from text, as in {"training.peak-lr": "1e-3"}.

        A value is read as TOML where it is valid TOML (numbers, booleans, lists), else as plain text.
        """
        values = self.to_values()
        for key, text in settings.items():
            if not _is_setting(key):
                raise _unknown_key(key, origin)
            *groups, last = key.replace("_", "-").split(".") if "sources." not in key else _source_key(key)
            group = values
            for name in groups:
                group = group.setdefault(name, {})
                if not isinstance(group, dict):
                    raise _unknown_key(key, origin)
            group[last] = _read_value(text)
        return Recipe.build(values, origin)

    def to_values(self) -> dict[str, Any]:
        """Nested plain values with hyphenated keys; settings that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_toml(self) -> str:
        """The complete recipe, defaults included."""
        return tomli_w.dumps(self.to_values())


def bundled_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        path.name.removesuffix(".toml") for path in _bundled_folder().iterdir() if path.name.endswith(".toml")
    )


def json_schema() -> dict[str, Any]:
    """JSON schema of a recipe, for editors that check TOML."""
    return Recipe.model_json_schema(by_alias=True)


def setting_keys() -> list[str]:
    """Every dotted key of a recipe; a source's name is written `<source>`."""
    return list(_keys_of(Recipe, ""))


def _is_setting(key: str) -> bool:
    """Whether a dotted key, with hyphens or underscores, names a setting or a whole source."""
    if re.fullmatch(r"corpus\.sources\.[^.]+", key):
        return True
    return re.sub(r"^corpus\.sources\..+\.", "corpus.sources.<source>.", key).replace("_", "-") in setting_keys()


def _keys_of(group: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in group.model_fields.items():
        key = prefix + (field.alias or name)
        inner = field.annotation
        if name == "sources":
            yield from _keys_of(SourceSettings, key + ".<source>.")
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys_of(inner, key + ".")
        else:
            yield key


def _bundled_folder() -> Any:
    return resources.files("firstwords").joinpath("recipes")


def _source_key(key: str) -> list[str]:
    """`corpus.sources.simple_wiki.document_bytes` -> parts; the source's own name keeps its underscores."""
    head, _, rest = key.partition("sources.")
    name, _, setting = rest.partition(".")
    return [*head.replace("_", "-").strip(".").split("."), "sources", name, setting.replace("_", "-")]


def _read_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _unknown_key(key: str, origin: str) -> FirstwordsError:
    hint = did_you_mean(key, setting_keys()) or did_you_mean(
        key.rpartition(".")[2], [known.rpartition(".")[2] for known in setting_keys()]
    )
    return FirstwordsError(
        f"a recipe has no setting '{key}'",
        where=origin,
        do=hint or "`firstwords schema` lists every setting",
    )


def _explain(error: ValidationError, origin: str) -> FirstwordsError:
    first = error.errors(include_url=False)[0]
    # pydantic's path also names the branches of a union ("int", "tuple[...]"); no key of a recipe looks like that.
    parts = [str(part) for part in first["loc"] if not re.search(r"[\[\]()]|^(int|str|bool|none|float)$", str(part))]
    key = ".".join(parts)
    if first["type"] == "extra_forbidden":
        return _unknown_key(key, origin)
    if first["type"] == "missing":
        return FirstwordsError(f"the recipe lacks the setting '{key}'", where=origin, do=f"add {key}")
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    return FirstwordsError(
        f"{key or 'the recipe'}: {message[0].lower() + message[1:]}{given}",
        where=f"{key} in {origin}" if key else origin,
        do=_field_doc(parts) or "correct the setting",
    )


def _field_doc(parts: list[str]) -> str | None:
    """What a setting means, from where it is defined."""
    group: Any = Recipe
    doc = None
    for part in parts:
        if group is SourceSettings or not hasattr(group, "model_fields"):
            fields = getattr(group, "model_fields", {})
        else:
            fields = group.model_fields
        field = fields.get(part.replace("-", "_"))
        if field is None:
            group = SourceSettings
            continue
        doc = field.description
        args = [arg for arg in (field.annotation, *get_args(field.annotation)) if isinstance(arg, type)]
        group = next((arg for arg in args if issubclass(arg, BaseModel)), None)
    return doc
