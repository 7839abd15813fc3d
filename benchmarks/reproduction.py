"""Set runs of a card's recipe beside the card: losses in the card's own units, BLiMP overall and per paradigm.

    python benchmarks/reproduction.py --reference DIR --card a runs/model-a runs/model-a-seed2 runs/model-a-seed3

    python benchmarks/reproduction.py --reference DIR --card b runs/model-b

DIR holds card_a_losses.csv (the authors' log) and cards_blimp_fast.csv (accuracies per paradigm). A run on another text
has other steps than the card: then losses stand beside each other at the same share of all steps. Prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from pathlib import Path
from typing import Any

SHOWN_STEPS = (100, 250, 500, 1_000, 2_000, 3_000, 5_000, 7_000)


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def result_of(run: Path, name: str) -> dict[str, Any] | None:
    """A result that the run has, or None."""
    path = run / "evaluation" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def mean_and_spread(values: list[float], digits: int) -> str:
    """`5.341 ± 0.004`: the mean and the standard deviation over seeds."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def losses(card: list[dict[str, str]], runs: list[Path], kind: str) -> str:
    """Losses beside the card's: `dev` at the end of each epoch, `train` as the mean of the 25 steps before.

    The first column is the card's step; a run is looked at in its nearest one by the share of all its steps.
    """
    theirs, ours = {"dev": ("eval_loss", "dev_loss_batch_means"), "train": ("loss", "train_loss")}[kind]
    of_run = [
        {int(row["step"]): float(row[ours]) for row in rows_of(run / "training/losses.csv") if row[ours]}
        for run in runs
    ]
    of_card = {int(row["step"]): float(row[theirs]) for row in card if row[theirs]}
    steps = [step for step in of_card if kind == "dev" or step in (*SHOWN_STEPS, max(of_card))]
    rows = []
    for step in steps:
        share = step / max(of_card)
        found = [values[min(values, key=lambda own: abs(own - share * max(values)))] for values in of_run]
        rows.append(
            [f"{step:,}", f"{of_card[step]:.3f}", *(f"{value:.3f}" for value in found), mean_and_spread(found, 3)]
        )
    return table(["card's step", "card", *(run.name for run in runs), "mean ± sd"], rows)


def blimp(reference: list[dict[str, str]], column: str, runs: list[Path]) -> str:
    """Accuracy on blimp-fast under `card`, overall and per paradigm, in percent."""
    results = [found for run in runs if (found := result_of(run, "blimp-fast.card"))]
    card = {row["paradigm"]: 100 * float(row[column]) for row in reference}
    ours = {name: [100 * found["paradigms"][name]["accuracy"] for found in results] for name in card}
    means = {name: statistics.mean(values) for name, values in ours.items()}
    overall = [100 * found["overall"]["accuracy"] for found in results]
    lines = [
        f"Overall: card {statistics.mean(card.values()):.2f}; runs {', '.join(f'{value:.2f}' for value in overall)}; "
        f"mean ± sd {mean_and_spread(overall, 2)}. "
        f"Correlation of the 67 paradigms' accuracies with the card's: "
        f"{statistics.correlation(list(card.values()), list(means.values())):.3f}.",
        "",
        table(
            ["paradigm", "card", "mean ± sd of the runs"],
            [[name, f"{card[name]:.1f}", mean_and_spread(ours[name], 1)] for name in card],
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--card", choices=["a", "b"], default="a")
    parser.add_argument("runs", type=Path, nargs="+")
    asked = parser.parse_args()
    card = rows_of(asked.reference / f"card_{asked.card}_losses.csv")
    print("### Dev loss, the card's unit\n\n" + losses(card, asked.runs, "dev"))
    print("\n### Training loss, the card's unit (mean of 25 steps)\n\n" + losses(card, asked.runs, "train"))
    print("\n### BLiMP, 13,400 pairs, protocol `card`\n")
    print(blimp(rows_of(asked.reference / "cards_blimp_fast.csv"), f"model_{asked.card}", asked.runs))
    print("\n### BLiMP, 67,000 pairs, protocol `firstwords`\n")
    for run in asked.runs:
        if found := result_of(run, "blimp.firstwords"):
            overall = found["overall"]
            low, high = (100 * overall[key] for key in ("low", "high"))
            print(f"- {run.name}: {100 * overall['accuracy']:.2f}% (95% interval {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
