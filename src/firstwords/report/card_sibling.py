"""What a model card says of the run and a sibling: facts side by side, and paired differences on all common results."""

from __future__ import annotations

from firstwords.errors import FirstwordsError
from firstwords.report.compared import Compared, Seed, accuracy, compare_all, legend, side_by_side
from firstwords.report.compared_markdown import code, differences, facts, text
from firstwords.run_folder import RunFolder

_ONE_SEED = "This is about these two models: other seeds of the same recipes may differ as much."


def sibling_section(run: RunFolder, sibling: RunFolder) -> str:
    """The Markdown below the section's heading: the sibling is A, the run of the card is B."""
    sides = [[Seed.of_folder(one.name, one.path)] for one in (sibling, run)]
    compared: list[Compared] = []
    refused = []
    for key in sides[1][0].results:
        if key in sides[0][0].results:
            try:
                compared.append(compare_all(sides, key))
            except FirstwordsError as error:
                refused.append(f"On {code('.'.join(key))} they cannot be compared: {text(error.what)}.")
    known = {one.result: [accuracy(model.overall) for model in one.models] for one in compared}
    lines = [f"**{one.result}**: {text(one.sentences[0])}\n" for one in compared]
    lines += [f"{told}\n" for told in refused]
    if not compared and not refused:
        lines.append("The two have no test set and protocol in common, so that no difference can be told.\n")
    lines += [*facts([sibling.name, run.name], side_by_side(sides, known)), ""]
    for one in compared:
        lines += [f"### {text(one.title)}: {code(one.result)}, {one.first.overall.pairs:,} pairs", ""]
        lines += [*differences(one.first, "phenomenon"), ""]
        lines += [*(text(told) for told in legend(one, "phenomenon")), ""]
    if compared:
        lines.append(_ONE_SEED)
    return "\n".join(lines).rstrip()
