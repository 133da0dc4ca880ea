"""What launch.experiment prints at its end is what findings.json holds."""

from __future__ import annotations

import json
from pathlib import Path

from constellation.evaluation.report import write_report
from constellation.evaluation.summary import summary
from tests.evaluation.synthetic import study


def test_findings_and_pass_at_k(tmp_path: Path) -> None:
    drawn = study(tasks=6, resamples=30)
    write_report(drawn, tmp_path)
    results = json.loads((tmp_path / "findings.json").read_text())
    text = summary(tmp_path)
    words = " ".join(text.split())
    assert results["overall"]["sentence"] in words
    for name, finding in results["findings"].items():
        assert f"{name.replace('_', ' ')}: {finding['verdict']}. {finding['sentence']}" in words
    rows = {line.split()[0]: line for line in text.splitlines()[-3:]}
    assert set(rows) == {"easy", "hard", "withheld"}
    small, large = results["analysis"]["small_k"], results["analysis"]["large_k"]
    for bank, line in rows.items():
        cells = line[24:].replace(" / ", "/").split()
        assert len(cells) == len(results["models"])
        for model, cell in zip(results["models"], cells, strict=True):
            for k, shown in zip((small, large), cell.split("/"), strict=True):
                (row,) = [
                    row
                    for row in results["entries"]
                    if (row["quantity"], row["bank"], row["models"], row["k"]) == ("pass@k", bank, [model], k)
                ] or [None]
                assert shown == ("-" if row is None else f"{100 * row['estimate']:.1f}")
