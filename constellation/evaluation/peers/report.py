"""The report of a study of peers: report.html in one file, a PNG of every figure, and findings.json.

All are functions of the results alone and hold no time: the same inputs give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from constellation.evaluation.analysis import bootstrap_of
from constellation.evaluation.entries import Entries, plain
from constellation.evaluation.findings import adjust
from constellation.evaluation.page import DASH, environment, report_filters
from constellation.evaluation.peers.claims import claims
from constellation.evaluation.peers.drawing import FIGURES, word
from constellation.evaluation.peers.measures import measures
from constellation.evaluation.peers.paper import comparison
from constellation.evaluation.peers.results import BANK, PeersResults
from constellation.evaluation.report import draw_figure
from constellation.evaluation.statistics import holm


def write_report(study: PeersResults, directory: Path) -> dict[str, Any]:
    """Analyses a study and writes its report into a directory, made if need be; returns findings.json's."""
    directory.mkdir(parents=True, exist_ok=True)
    found, rows = analyse(study)
    text = json.dumps(found, indent=1, sort_keys=True, allow_nan=False)
    (directory / "findings.json").write_text(text + "\n", encoding="utf-8")
    drawn = {name: draw_figure(name, partial(draw, study, rows), directory) for name, draw in FIGURES.items()}
    figures = {name: text for name, text in drawn.items() if text}
    template = environment(report_filters(1 - study.analysis.level)).get_template("peers.html.j2")
    page = template.render(
        study=study,
        found=found,
        rows=rows,
        figures=figures,
        word=word,
        paper=comparison(rows, found),
        dash=DASH,
    )
    (directory / "report.html").write_text(page, encoding="utf-8")
    return found


def analyse(study: PeersResults) -> tuple[dict[str, Any], Entries]:
    """What findings.json holds, and its rows."""
    choice = study.analysis
    bootstrap = bootstrap_of(choice, study.trajectories, {BANK: study.problems})
    rows, discoveries = adjust(measures(study, bootstrap), choice.level)
    made = claims(study, bootstrap)
    adjusted = holm([claim.p_value() for claim in made.values()])
    scope = "this trajectory" if study.trajectories == 1 else "trajectories of these peers"
    judged = {
        name: claim.judged(choice, scope, float(p), len(made))
        for (name, claim), p in zip(made.items(), np.asarray(adjusted), strict=True)
    }
    found = {
        "findings": judged,
        "entries": rows,
        "discoveries": discoveries,
        "peers": study.peers,
        "models": study.models,
        "trajectories": study.trajectories,
        "tasks": {BANK: study.problems},
        "samples_per_task": study.n,
        "traces": [
            trace._asdict() | {"steps": [step._asdict() for step in trace.steps]} for trace in study.traces
        ],
        "analysis": dataclasses.asdict(choice),
        "sources": study.sources,
    }
    return plain(found), rows
