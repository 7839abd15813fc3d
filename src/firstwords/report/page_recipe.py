"""A recipe in plain words: what was asked for, sentence after sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firstwords.recipe import Recipe
from firstwords.report.page_parts import Block, listed

_NORMALIZERS = {
    "nfc": "Unicode's composed form (NFC)",
    "nfd": "Unicode's decomposed form (NFD)",
    "nfkc": "Unicode's compatible composed form (NFKC)",
    "lowercase": "lower case",
    "strip": "no spaces at its ends",
}
_SCHEDULES = {
    "cosine": "falls along a cosine",
    "linear": "falls along a line",
    "warmup-stable-decay": "stays there and falls at the end",
}


def recipe_blocks(recipe: Recipe) -> list[Block]:
    """The recipe, topic by topic, and the whole file to be opened."""
    values = recipe.to_values()
    told = {
        "Text": _text(values["corpus"]),
        "Tokenizer": _tokenizer(values["tokenizer"]),
        "Examples": _examples(values["tokens"], values["tokenizer"]),
        "Model": _model(values["model"]),
        "Training": _training(values["training"], values["tokens"], values["seed"]),
        "Tests": _tests(values["evaluation"]),
    }
    return [
        Block(said=(recipe.description,) if recipe.description else (), more={"topics": told}),
        Block("The whole recipe", folded=True, more={"text": recipe.to_toml()}),
    ]


def _text(corpus: Mapping[str, Any]) -> str:
    sources: Mapping[str, Mapping[str, Any]] = corpus["sources"]
    weights = {source.get("weight", 1.0) for source in sources.values()}
    shares = "in equal shares" if len(weights) == 1 else "in shares by their weights"
    if len(sources) == 1:
        shares = "alone"
    if corpus["mix"] == "chunks":
        how = f"in turn by raw pieces of {corpus['chunk-bytes']:,} bytes, cut where they fall"
    else:
        chosen = "drawn by the seed" if corpus["order"] == "shuffled" else "the first of each source"
        how = f"by whole documents, {chosen}"
    dev = (
        f"The dev text is the file {corpus['dev-file']}."
        if "dev-file" in corpus
        else f"The dev text is up to {corpus['dev-budget']} of documents that the training text does not have."
    )
    cleaned = [name for name, source in sources.items() if source.get("rules")]
    rules = f" {listed(cleaned).capitalize()} went through cleaning rules, named below." if cleaned else ""
    kind = "source" if len(sources) == 1 else "sources"
    return (
        f"At most {corpus['budget']} from the {kind} {listed(list(sources))}, {shares}, mixed {how}.{rules} {dev}"
    ).replace("  ", " ")


def _tokenizer(settings: Mapping[str, Any]) -> str:
    specials = list(dict.fromkeys((settings["bos"], settings["eos"], settings["pad"])))
    forms = [_NORMALIZERS.get(name, name) for name in settings["normalizer"]]
    normal = f"Text is first brought to {listed(forms)}." if forms else "Text is taken as it is."
    alphabet = (
        "It begins with all 256 bytes, so that any text can be written with it."
        if settings["all-bytes"]
        else "It begins with the bytes of the training text; other bytes have no token."
    )
    return (
        f"A byte-level BPE of {settings['vocabulary']:,} tokens, learnt from the training text alone, and "
        f"{listed(specials)} besides. {normal} {alphabet}"
    )


def _examples(tokens: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> str:
    context = tokens["context"]
    if tokens["examples"] == "lines":
        rows = f"Each line is one example, cut where it is longer than {context} tokens."
    else:
        sight = "what stands before it in the row" if tokens["cross-documents"] else "its own document only"
        rows = f"Documents are packed into rows of {context} tokens; a token sees {sight}."
    marks = [
        f"{verb} with {tokenizer[name]}"
        for key, verb, name in (("add-bos", "begins", "bos"), ("add-eos", "ends", "eos"))
        if tokens[key]
    ]
    return f"{rows} {'Each ' + listed(marks) + '.' if marks else 'No special token marks where a text begins or ends.'}"


def _model(model: Mapping[str, Any]) -> str:
    shared = model.get("kv-heads", model["heads"])
    heads = f"{model['heads']} attention heads" + (f" that share {shared} keys" if shared != model["heads"] else "")
    ends = "one matrix serves" if model["tied-embeddings"] else "two matrices serve"
    dropout = f"Dropout {model['dropout']:g}." if model["dropout"] else "No dropout."
    return (
        f"A LLaMA: {model['layers']} layers of width {model['hidden']:,}, {heads}, feed-forward layers of width "
        f"{model['intermediate']:,}, rotary positions up to {model['positions']:,}; {ends} input and output. {dropout}"
    )


def _training(training: Mapping[str, Any], tokens: Mapping[str, Any], seed: int) -> str:
    rows = "lines" if tokens["examples"] == "lines" else "rows"
    batch = f"{training['batch-size']} {rows}"
    if training["accumulation"] > 1:
        batch = f"{training['accumulation']} times {batch}"
    end = training["peak-lr"] * training["final-lr-share"]
    schedule = _SCHEDULES.get(training["schedule"], training["schedule"])
    rule = "Muon for the blocks' matrices, AdamW for the rest" if training.get("optimizer") == "muon" else "AdamW"
    clip = f"gradients are cut to norm {training['clip-norm']:g}" if training["clip-norm"] else "gradients are not cut"
    kept = {
        "last": "The model after the last step is the one that is tested.",
        "best": "The model with the lowest dev loss is the one that is tested.",
        "ema": "The moving average of the weights is the model that is tested.",
    }.get(training["select"], "")
    return (
        f"{training['epochs']:g} passes over the text, {batch} a step, by {rule} (betas {training['beta1']:g} and "
        f"{training['beta2']:g}, weight decay {training['weight-decay']:g}). The learning rate rises to "
        f"{training['peak-lr']:g} in {training['warmup-steps']:,} steps, then {schedule} to {end:g}; {clip}. "
        f"All chance comes from the seed {seed}. {kept}"
    )


def _tests(evaluation: Mapping[str, Any]) -> str:
    suites: Sequence[str] = evaluation["suites"]
    control = (
        " The untrained weights are scored too: they must be at chance." if evaluation["untrained-control"] else ""
    )
    return f"The selected model is scored on {listed(suites)} (test set and protocol).{control}"
