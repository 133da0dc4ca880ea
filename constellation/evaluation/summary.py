"""What a study found, for the terminal: the findings and the table of pass@k."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDTH = 100


def summary(workdir: Path) -> str:
    """The verdict over all, the three findings and pass@k, as findings.json has them."""
    results = json.loads((workdir / "findings.json").read_text(encoding="utf-8"))
    sentences = [results["overall"]["sentence"]] if "overall" in results else []
    sentences += [
        f"{name.replace('_', ' ')}: {finding['verdict']}. {finding['sentence']}"
        for name, finding in results["findings"].items()
    ]
    filled = [textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in sentences]
    return "\n".join([*filled, *(matches(results) if "peers" in results else table(results))])


def table(results: Mapping[str, Any]) -> list[str]:
    """pass@k at the two k of the crossover in % of tasks, a line for each bank, a column for each model."""
    ks = results["analysis"]["small_k"], results["analysis"]["large_k"]
    found = {
        (row["bank"], row["models"][0], row["k"]): row["estimate"]
        for row in results["entries"]
        if row["quantity"] == "pass@k"
    }
    models = results["models"]
    lines = ["", f"{f'pass@{ks[0]} / pass@{ks[1]}, %':24}" + "".join(f"{model:>16}" for model in models)]
    for bank in results["tasks"]:
        shares = {model: [found.get((bank, model, k)) for k in ks] for model in models}
        cells = [" / ".join("-" if x is None else f"{100 * x:.1f}" for x in own) for own in shares.values()]
        lines.append(f"{bank:24}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


def matches(results: Mapping[str, Any]) -> list[str]:
    """Of a study of peers, the exact match in % of samples: a line for each peer, a column for each model."""
    found = {
        (row["of"], row["models"][0]): row["estimate"]
        for row in results["entries"]
        if row["quantity"] == "exact match"
    }
    lines = ["", f"{'exact match, %':16}" + "".join(f"{model:>14}" for model in results["models"])]
    for name in (*results["peers"], "mean"):
        cells = [f"{100 * found[name, model]:14.1f}" for model in results["models"]]
        lines.append(f"{name:16}" + "".join(cells))
    return lines
