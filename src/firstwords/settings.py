"""Every setting, in groups: frozen, typed, named in TOML as in the code (with hyphens), told where it is defined."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

from firstwords.budget import Budget

BudgetField = Annotated[
    Budget,
    BeforeValidator(Budget.parse, json_schema_input_type=str),
    PlainSerializer(lambda b: b.text, return_type=str),
]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Course = Annotated[tuple[tuple[Positive, Annotated[float, Field(gt=0, lt=1)]], ...], Field(min_length=1)]
"""A number's course before its last value: [value, share of all steps until which it holds], in order."""


class Settings(BaseModel):
    """Base of all groups of settings: frozen, unknown keys refused, hyphens in TOML."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


class SourceSettings(Settings):
    """A named origin of documents."""

    at: str | None = None
    """Where the text is: a path (file, folder, .gz, .zip, .jsonl), an http(s) address,
    `hub:owner/repo[@revision]/file`, `grammar:<register>`, or nothing: then found by the source's name under --data,
    else in the catalogue. `catalogue:<entry>` (as in `catalogue:babylm-2026/childes`) names another entry of it."""
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
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Expected checksum of a downloaded file, in 64 small hexadecimal digits."""
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
    bos: Annotated[str, Field(min_length=1)] = "<s>"
    """Token before the first of a document; may be the same as eos."""
    eos: Annotated[str, Field(min_length=1)] = "</s>"
    """Token after the last of a document."""
    pad: Annotated[str, Field(min_length=1)] = "<pad>"
    """Token that fills up; never a target."""

    @model_validator(mode="after")
    def _bytes_fit(self) -> Self:
        if self.all_bytes and self.vocabulary < 256:
            raise ValueError("a vocabulary that has all 256 bytes has 256 entries or more (or set all-bytes = false)")
        return self


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
    """Passes over the training text; steps are as many as these fill."""
    whole_steps_per_epoch: bool = False
    """Take as many steps an epoch as its batches fill, as the cards' Trainer did: up to a step of it is left out."""
    max_steps: Positive | None = None
    """Stop after this many optimizer steps, whatever `epochs` says."""
    batch_size: Positive = 16
    """Rows (or lines) in a batch."""
    batch_size_schedule: Course | None = None
    """Other batch sizes before `batch-size`, as in [[8, 0.1], [16, 0.3]]: 8 in the first tenth of all steps, 16 until
    three tenths, then `batch-size`. The epochs stay as many, so that there are more steps or fewer."""
    context_schedule: Course | None = None
    """Shorter rows before those of `tokens.context`, as in [[64, 0.2], [128, 0.5]]; for packed rows. The text stays the
    same and a step has fewer tokens: `batch-size-schedule` can make up for it."""
    accumulation: Positive = 1
    """Batches in one optimizer step. How a step is cut for memory is the tool's choice and changes no result."""
    peak_lr: Annotated[float, Field(gt=0)] = 3e-4
    """Highest learning rate."""
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    """Steps of linear warm-up from 0."""
    schedule: Literal["cosine", "linear", "warmup-stable-decay", "constant-decay"] = "cosine"
    """Course of the learning rate after the warm-up. `warmup-stable-decay` (WSD) stays at the peak until the last
    `decay-share` of the steps; `constant-decay` is its older name here."""
    decay_share: Fraction = 0.2
    """Share of all steps in which `warmup-stable-decay` falls at the end."""
    decay_shape: Literal["linear", "1-sqrt"] = "linear"
    """How `warmup-stable-decay` falls: evenly, or as 1 - sqrt(share of the fall that is done): fast, then slowly."""
    final_lr_share: Fraction = 0.0
    """Learning rate at the last step as a share of the peak."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Rule of the updates: AdamW for all weights, or Muon for the blocks' matrices and AdamW for embeddings, head and
    norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW: decay of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW: decay of the second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW: term that keeps the step finite."""
    muon_lr: Annotated[float, Field(gt=0)] | None = None
    """Muon: highest learning rate of its matrices, on the same course; `peak-lr` where not given."""
    muon_scale: Literal["match-rms-adamw", "original"] = "match-rms-adamw"
    """Muon: what the learning rate is multiplied with. `match-rms-adamw`, 0.2 sqrt(longer side), makes steps as large
    as AdamW's, so that AdamW's rates serve; `original`, sqrt(rows / columns) but at least 1, wants about 0.02."""
    muon_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Muon: decay of the moving average of the gradients."""
    muon_nesterov: bool = True
    """Muon: look ahead by the newest gradient (Nesterov)."""
    muon_steps: Annotated[int, Field(gt=0, lt=100)] = 5
    """Muon: Newton-Schulz iterations that make an update orthogonal."""
    weight_decay: NotNegative = 0.0
    """Decoupled decay of the blocks' matrices, and with `decay-embeddings` of embeddings and head."""
    decay_embeddings: bool = False
    """Apply `weight-decay` to the embeddings and the head too."""
    weight_decay_embeddings: NotNegative | None = None
    """Decay of the input embeddings (tied: of the one matrix), where it is not as `decay-embeddings` says."""
    weight_decay_head: NotNegative | None = None
    """Decay of an output matrix of its own, where it is not as `decay-embeddings` says."""
    weight_decay_norms: NotNegative | None = None
    """Decay of the norms' weights; none where not given."""
    clip_norm: NotNegative = 1.0
    """Largest norm of the gradient; 0 cuts nothing."""
    z_loss: NotNegative = 0.0
    """Weight of log(Z)^2, Z the sum of the exponentials of a token's logits, in the training loss (1e-4 is usual): it
    keeps the logits small. Losses on the dev text are without it."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep a moving average of the weights beside them, as the checkpoint `ema`: the share of the old average that a
    step leaves. No average where not given."""
    loss_mean_over: Literal["targets", "tokens"] = "targets"
    """What a step's summed loss is divided by: the tokens predicted, or (the cards) all tokens."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the matrix products; weights stay float32. fp16 (with loss scaling) needs CUDA and is bf16 elsewhere."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    deterministic: bool = False
    """On CUDA: only kernels that sum in the same order every time, so that two trainings end with the same bits. They
    are slower. Elsewhere all are so already."""
    compile: bool | Literal["auto"] = "auto"
    """Make one loop of each chain of small operations: on a CPU by torch.compile; on CUDA by kernels of Triton, with
    steps recorded as CUDA graphs where one GPU trains. Results change by rounding. `auto` does so where a compiler is
    there and the training is long enough to win back the half minute that it takes once on a CPU."""
    micro_tokens: Positive | Literal["auto"] = "auto"
    """Tokens that pass the model at once: a larger batch goes through in parts, and their gradients are added up;
    results change by rounding. `auto` measures what is fastest here where the training is long, and remembers it."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute activations to save memory; changes no result."""
    shard_weights: bool | Literal["auto"] = "auto"
    """With several processes: each holds a part of the weights, gradients and moments (FSDP2), for models that one
    device cannot hold; `auto` does so where it must. Changes no result. Not with Muon."""
    eval_every_steps: Positive | None = None
    """Steps between dev losses; at the end of each epoch where not given."""
    log_every_steps: Positive = 25
    """Steps between lines of losses.csv; metrics.jsonl has every step."""
    checkpoint_words: Literal["none", "babylm"] | tuple[Positive, ...] = "none"
    """Words seen at which a model is kept: BabyLM's 1-9M, 10-90M, 100-1000M, or a list."""
    resume_minutes: Annotated[float, Field(gt=0)] = 5.0
    """Minutes between saves of the whole state from which a killed run goes on."""
    select: Literal["last", "best", "ema"] = "last"
    """Which model is evaluated and exported: after the last step, with the lowest dev loss, or the moving average."""

    @field_validator("schedule")
    @classmethod
    def _newer_name(cls, schedule: str) -> str:
        return "warmup-stable-decay" if schedule == "constant-decay" else schedule

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("muon_lr", "muon_scale", "muon_momentum", "muon_nesterov", "muon_steps"):
            if self.optimizer != "muon" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f'{name.replace("_", "-")} says something only with optimizer = "muon"')
        if self.decay_shape != "linear" and self.schedule != "warmup-stable-decay":
            raise ValueError('decay-shape says something only with schedule = "warmup-stable-decay"')
        if self.decay_embeddings and (self.weight_decay_embeddings, self.weight_decay_head) != (None, None):
            raise ValueError("give decay-embeddings, or weight-decay-embeddings and weight-decay-head, not both")
        if self.select == "ema" and self.ema_decay is None:
            raise ValueError('select = "ema" needs ema-decay: without it no average is kept')
        for name, course in (("batch-size", self.batch_size_schedule), ("context", self.context_schedule)):
            ends = [until for _, until in course or ()]
            if ends != sorted(set(ends)):
                raise ValueError(f"the shares of {name}-schedule must rise: each says until when its value holds")
        return self


def check_training(training: TrainingSettings, tokens: TokenSettings, model: ModelSettings) -> None:
    """Raise ValueError where training's settings contradict those of tokens or model."""
    if training.context_schedule is not None:
        if tokens.examples != "packed":
            raise ValueError(
                'training.context-schedule needs tokens.examples = "packed": lines are as long as they are'
            )
        longest = max(context for context, _ in training.context_schedule)
        if longest > tokens.context:
            raise ValueError(
                f"training.context-schedule has rows of {longest} tokens, longer than tokens.context ({tokens.context})"
            )
        if min(context for context, _ in training.context_schedule) < 2:
            raise ValueError("training.context-schedule has rows of less than 2 tokens")
    if training.weight_decay_head is not None and model.tied_embeddings:
        raise ValueError("training.weight-decay-head: the head is the embeddings; give weight-decay-embeddings")


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
    compare_with: str | None = None
    """Another run of the workspace with which the model card compares this one, as in `model-a`."""
