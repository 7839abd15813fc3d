"""The model card: README.md of the exported folder, every number of it read from the run.

What the card says stands in `card_template.md`; here its numbers are gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.report.card_sibling import sibling_section
from firstwords.report.page_training import read_steps
from firstwords.report.results import UNTRAINED
from firstwords.report.terminal import duration
from firstwords.run_folder import RunFolder, atomic_write_text, read_json

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TITLES = {
    "blimp": "BLiMP",
    "blimp-fast": "BLiMP, the pairs of BabyLM 2025's fast set",
    "grammar": "Minimal pairs of the built-in grammar",
}
_HUB_DATASETS = {"blimp": "nyu-mll/blimp", "blimp-fast": "nyu-mll/blimp"}
_NAMED_BESIDE = 3
"""How many phenomena are named as the strongest and as the weakest."""
_MOST_LOSS_LINES = 12
_CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class _Result:
    """One suite under one protocol, as `evaluation/<suite>.<protocol>.json` has it."""

    suite: str
    protocol: str
    values: dict[str, Any]
    untrained: dict[str, Any] | None
    floors: dict[str, dict[str, Any]]
    """What needs no grammar, by name."""

    @property
    def title(self) -> str:
        """The test set's name for people."""
        return _TITLES.get(self.suite, self.suite)


def write_card(run: RunFolder, samples: Mapping[str, str], path: Path, sibling: RunFolder | None = None) -> None:
    """Write the model card of a trained run to `path`.

    samples: for each prompt of the recipe what the model made of it, the prompt first. sibling: a run with results that
    it is to be compared with.
    Raises FirstwordsError where the run is not trained and evaluated.
    """
    for stage in ("corpus", "tokenizer", "tokens", "training", "evaluation"):
        _facts(run, stage)
    recipe = Recipe.load(run.path / "recipe.toml")
    results = _results(run)
    text = f"---\n{_metadata(run, recipe, results)}\n---\n\n{_body(run, recipe, results, samples, sibling)}"
    atomic_write_text(path, text)


def _metadata(run: RunFolder, recipe: Recipe, results: Sequence[_Result]) -> str:
    """The card's head in YAML, as the Hugging Face Hub reads it."""
    from huggingface_hub import ModelCardData

    artificial = any(_is_artificial(source) for source in recipe.to_values()["corpus"]["sources"].values())
    english = artificial or any(result.suite in _TITLES for result in results)
    data = ModelCardData(
        language="en" if english else None,
        license=recipe.export.license,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["firstwords", "llama", "small-language-model", *(["artificial-text"] if artificial else [])],
        metrics=["accuracy"] if results else None,
        model_name=run.name,
        eval_results=[_eval_result(result) for result in results] or None,
    )
    if not results:
        # Without results huggingface_hub would write the name under a key that the Hub does not know.
        data.model_name = None
    return data.to_yaml()


def _eval_result(result: _Result) -> EvalResult:
    from huggingface_hub import EvalResult

    overall = result.values["overall"]
    return EvalResult(
        task_type="text-generation",
        task_name="Minimal pairs",
        dataset_type=_HUB_DATASETS.get(result.suite, result.suite),
        dataset_name=f"{result.title}, protocol {result.protocol}",
        # The Hub joins results of equal type and config: the protocol keeps them apart.
        dataset_config=f"{result.suite}.{result.protocol}",
        metric_type="accuracy",
        metric_name="overall accuracy",
        metric_value=overall["accuracy"],
        metric_args={"low": overall["low"], "high": overall["high"], "pairs": overall["pairs"]},
    )


def _body(
    run: RunFolder,
    recipe: Recipe,
    results: Sequence[_Result],
    samples: Mapping[str, str],
    sibling: RunFolder | None,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    values = recipe.to_values()
    training, corpus = _facts(run, "training"), read_json(run.stage("corpus") / "corpus.json")
    tokenizer, losses = read_json(run.stage("tokenizer") / "fertility.json"), _losses(run)
    environment = training["environment"]
    # A number that is missing must fail, not leave a gap.
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= _FILTERS
    return templates.get_template("card_template.md").render(
        name=run.name,
        description=recipe.description,
        notices=_notices(values),
        artificial_only=all(_is_artificial(source) for source in values["corpus"]["sources"].values()),
        recipe=values,
        model=values["model"],
        settings=values["training"],
        corpus=corpus,
        mixing=_mixing(corpus),
        sources=[_source(name, facts) for name, facts in corpus["sources"].items()],
        rules=[(name, ", ".join(facts["rules"])) for name, facts in corpus["sources"].items() if facts.get("rules")],
        tokenizer=tokenizer,
        vocabulary=tokenizer["vocabulary"] + len(tokenizer["special_tokens"]),
        tokens=_facts(run, "tokens"),
        training=training,
        optimizer=_optimizer(values["training"]),
        schedule=_schedule(values["training"]),
        kept=_KEPT[values["training"]["select"]],
        versions=environment["versions"],
        machine=_machine(training["device"], environment),
        losses=_thinned(losses),
        best=min(losses, key=lambda line: line["dev_loss"]),
        results=[_result_view(result) for result in results],
        tasks=_tasks(run),
        sibling=sibling.name if sibling else None,
        sibling_section=sibling_section(run, sibling) if sibling else "",
        limitations=_limitations(values, tokenizer, results),
        prompt=next(iter(samples), "The researchers conducted an experiment to"),
        samples=[text.replace("```", "'''") for text in samples.values()],
        year=_mark_date(run)[:4],
        license=recipe.export.license,
        cites_blimp=any(result.suite in _HUB_DATASETS for result in results),
    )


# ---- what the run's files say ----


def _facts(run: RunFolder, stage: str) -> dict[str, Any]:
    mark = run.mark(stage)
    if mark is None:
        raise FirstwordsError(
            f"the run '{run.name}' has no {stage} stage that is done, so there is no model to describe",
            where=str(run.path),
            do=f"finish it with `firstwords run {run.name}`",
        )
    return mark.facts


def _mark_date(run: RunFolder) -> str:
    mark = run.mark("training")
    return mark.finished if mark else ""


def _results(run: RunFolder) -> list[_Result]:
    """The results on minimal pairs of the evaluation stage, by the names it wrote them under; controls beside them."""
    names: dict[str, float] = _facts(run, "evaluation")["overall"]
    found = []
    for name in names:
        values = run.result(name)
        if name.startswith(UNTRAINED) or "metric" in values:
            continue
        untrained = run.result(UNTRAINED + name) if UNTRAINED + name in names else None
        floors = run.stage("evaluation") / f"{name}.floors.json"
        beside = read_json(floors)["floors"] if floors.is_file() else {}
        found.append(_Result(values["suite"], values["protocol"], values, untrained, beside))
    return found


def _tasks(run: RunFolder) -> list[dict[str, Any]]:
    """The results of its other tasks."""
    names: dict[str, float] = _facts(run, "evaluation")["overall"]
    found = [(name, run.result(name)) for name in names if not name.startswith(UNTRAINED)]
    return [values | {"name": name} for name, values in found if "metric" in values]


def _losses(run: RunFolder) -> list[dict[str, float]]:
    """Every dev loss, with the mean training loss of the steps since the one before."""
    steps = read_steps(run)
    found: list[dict[str, float]] = []
    before = 0
    for line in steps.dev:
        since, before = steps.mean_loss(before, line["step"]), line["step"]
        found.append(line | {"train_loss": float("nan") if since is None else since})
    return found


def _thinned(losses: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """At most a dozen lines, evenly spread, the last among them, and the best."""
    every = -(-len(losses) // _MOST_LOSS_LINES)
    best = min(losses, key=lambda line: line["dev_loss"])
    return [line for place, line in enumerate(reversed(losses)) if place % every == 0 or line is best][::-1]


# ---- what the template shows ----


def _is_artificial(source: Mapping[str, Any]) -> bool:
    return str(source.get("at", "")).startswith("grammar:")


def _notices(values: Mapping[str, Any]) -> list[str]:
    """Text of the built-in grammar is labelled wherever it was used."""
    from firstwords.corpus.grammar import ARTIFICIAL_NOTICE

    artificial = [name for name, source in values["corpus"]["sources"].items() if _is_artificial(source)]
    return [f"{', '.join(artificial)}: {ARTIFICIAL_NOTICE}"] if artificial else []


def _mixing(corpus: Mapping[str, Any]) -> str:
    weights = {facts["weight"] for facts in corpus["sources"].values()}
    shares = "in equal shares" if len(weights) == 1 else "by their weights"
    if corpus["mix"] == "chunks":
        return f"{shares}, source after source in raw chunks of {corpus['chunk_bytes']:,} bytes"
    chosen = "drawn by the seed" if corpus["order"] == "shuffled" else "the first of each source"
    return f"{shares}, source after source by whole documents ({corpus['train']['documents']:,}), {chosen}"


def _source(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    # A path on the machine that trained tells a reader nothing: files are known by their checksums.
    origin: str = facts["origin"]
    local = bool(facts["files"]) and "://" not in origin and "hub:" not in origin
    return {
        "name": name,
        "bytes": facts["train"]["bytes"],
        "license": facts["license"],
        "origin": "a local file or folder, checksums below" if local else origin,
        "files": facts["files"],
    }


_KEPT = {
    "last": "after the last step",
    "best": "with the lowest dev loss",
    "ema": "the moving average of the weights",
}


def _optimizer(training: Mapping[str, Any]) -> str:
    adamw = f"AdamW, betas {training['beta1']:g} and {training['beta2']:g}, eps {training['eps']:g}"
    decay = f"weight decay {training['weight-decay']:g}"
    if training["optimizer"] != "muon":
        return f"{adamw}, {decay}"
    rate = f"learning rate {training.get('muon-lr', training['peak-lr']):g}, momentum {training['muon-momentum']:g}"
    return f"Muon for the blocks' matrices ({rate}), {adamw} for the rest, {decay}"


def _schedule(training: Mapping[str, Any]) -> str:
    peak, end = training["peak-lr"], training["peak-lr"] * training["final-lr-share"]
    rise = f"{peak:g}, warm-up {training['warmup-steps']:,} steps"
    if training["schedule"] != "warmup-stable-decay":
        return f"{rise}, then {training['schedule']} to {end:g}"
    fall = f"falling ({training['decay-shape']}) to {end:g} in the last {100 * training['decay-share']:g}% of the steps"
    return f"{rise}, then constant, {fall}"


def _machine(device: str, environment: Mapping[str, Any]) -> str:
    if device == "cuda":
        return f"one {environment['cuda']}"
    threads = environment["threads"]
    return f"{device} with {threads} {'thread' if threads == 1 else 'threads'} ({environment['machine']})"


def _result_view(result: _Result) -> dict[str, Any]:
    values = result.values
    phenomena = sorted(values["phenomena"].items(), key=lambda item: -item[1]["accuracy"])
    paradigms = list(values["paradigms"].items())
    # Where there are few phenomena none is called both strong and weak.
    named = min(_NAMED_BESIDE, max(1, len(phenomena) // 2))
    above = sum(accuracy["low"] > _CHANCE for _, accuracy in paradigms)
    below = sum(accuracy["high"] < _CHANCE for _, accuracy in paradigms)
    return {
        "title": result.title,
        "protocol": result.protocol,
        "statement": values["statement"],
        "counts": values["counts"],
        "floor": values["floors"]["random"],
        "notes": values["notes"],
        "intervals": values["intervals"].items(),
        "sha256": values["data"]["sha256"],
        "overall": values["overall"],
        "phenomena": phenomena,
        "paradigms": paradigms,
        "strongest": phenomena[:named],
        "weakest": phenomena[::-1][:named],
        "above": above,
        "below": below,
        "at_chance": len(paradigms) - above - below,
        "untrained": result.untrained,
        "floors": [(name, one["overall"]) for name, one in result.floors.items() if name != "random"],
    }


def _limitations(values: Mapping[str, Any], tokenizer: Mapping[str, Any], results: Sequence[_Result]) -> list[str]:
    found = []
    for result in results:
        weak = [name for name, accuracy in result.values["phenomena"].items() if accuracy["low"] <= _CHANCE]
        if weak:
            found.append(
                f"On {result.title} (protocol {result.protocol}) it is not above chance in: "
                f"{', '.join(name.replace('_', ' ') for name in weak)}."
            )
    if tokenizer["unencodable_bytes"]:
        found.append(
            f"{tokenizer['unencodable_bytes']} of the 256 bytes are in no token: characters that need them vanish "
            "from what it reads."
        )
    if set(values["tokenizer"]["normalizer"]) & {"lowercase"}:
        found.append("It reads and writes lower case only.")
    context, positions = values["tokens"]["context"], values["model"]["positions"]
    if context < positions:
        found.append(
            f"It never trained on more than {context} tokens at a time, though its configuration declares {positions} "
            "positions."
        )
    if not values["tokens"]["add-bos"]:
        found.append("No text began with a beginning-of-sequence token in training: it does not know how texts start.")
    return found


def _percent(accuracy: Mapping[str, Any]) -> str:
    return f"{100 * accuracy['accuracy']:.1f}%"


def _interval(accuracy: Mapping[str, Any]) -> str:
    return f"{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}"


_FILTERS: dict[str, Callable[..., str]] = {
    "count": lambda number: f"{number:,.0f}",
    "percent": _percent,
    "interval": _interval,
    "bare_percent": lambda share: f"{100 * share:g}%",
    "loss": lambda value: f"{value:.3f}",
    "plain": lambda number: f"{number:g}",
    # A bar would end a table's cell, in code too.
    "code": lambda text: "`" + text.replace("|", "\\|") + "`",
    "words": lambda name: name.replace("_", " ").replace("|", "\\|"),
    "duration": duration,
}
