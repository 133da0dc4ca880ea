import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from constellation.evaluation.analysis import analyse
from constellation.evaluation.crossover import change_at_k
from constellation.evaluation.curves import PASS, pass_at_k_figure
from constellation.evaluation.entries import Entries
from constellation.evaluation.gains import SECOND_DIFFERENCE
from constellation.evaluation.page import listed, pools, spread
from constellation.evaluation.paper import comparison
from constellation.evaluation.question import Results
from constellation.evaluation.questions import QUESTIONS
from constellation.evaluation.report import render, write_report
from constellation.evaluation.training import learning_curves
from tests.evaluation.counted import counted_study
from tests.evaluation.synthetic import study, variants

ROOT = Path(__file__).parents[2]
EVERY = [name for question in QUESTIONS for name in question.figures]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    whole = study(controlled=1, selectors=True, exact=True, tempered=True)
    write_report(variants(whole, 1, n=8), directory)
    return directory


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_writes_page_findings_and_figures(written: Path) -> None:
    assert set(digests(written)) == {"report.html", "findings.json", *(f"{name}.png" for name in EVERY)}
    for path in written.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_same_inputs_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.evaluation.synthetic import study, variants\n"
        "from constellation.evaluation.report import write_report\n"
        "whole = study(controlled=1, selectors=True, exact=True, tempered=True)\n"
        "write_report(variants(whole, 1, n=8), Path(sys.argv[1]))"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "TZ": "Asia/Tokyo"}
    out = tmp_path / "again"
    subprocess.run([sys.executable, "-c", program, str(out)], check=True, env=environment, cwd=ROOT)
    assert digests(out) == digests(written)


def test_findings_follow_their_schema(written: Path) -> None:
    found = json.loads((written / "findings.json").read_text())
    assert set(found["findings"]) == {"critic_gain", "crossover", "deceleration"}
    for finding in found["findings"].values():
        assert finding["verdict"] in ("supported", "not supported", "inconclusive")
        assert finding["scope"] == "this trajectory"
    low, high = found["findings"]["critic_gain"]["interval"]
    assert low <= found["findings"]["critic_gain"]["estimate"] <= high
    passed = [row for row in found["entries"] if row["quantity"] == "pass@k"]
    assert {row["bank"] for row in passed} == {"easy", "hard", "withheld"}
    assert all(0 <= row["estimate"] <= 1 for row in passed)
    assert {row["question"] for row in found["entries"]} == set(found["facts"]) - {"training", "null"}


def test_page_is_one_file_that_opens_offline(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", re.sub(r'xlink:href="#', "", page))
    assert "@import" not in page and "<script" not in page and "url(http" not in page
    assert page.count("<figure id=") == len(EVERY)
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


def test_ids_of_the_page_are_unique(written: Path) -> None:
    ids = re.findall(r'\sid="([^"]*)"', (written / "report.html").read_text())
    assert len(ids) == len(set(ids))


def test_page_says_what_was_found(written: Path) -> None:
    page = (written / "report.html").read_text()
    found = json.loads((written / "findings.json").read_text())
    for finding in found["findings"].values():
        assert finding["sentence"] in page
        assert f">{finding['verdict']}</span>" in page
    for mark in ("stated", "secondary", "ours"):
        assert f'<td class="mark">{mark}</td>' in page
    assert "model.quantization" in page and "3f1c9a" in page


def test_what_a_model_writes_stays_text() -> None:
    results = study(tasks=6)
    tasks = [replace(task, program="<b>&", visible=((("<i>",), "</td>"),)) for task in results.tasks["hard"]]
    results = replace(results, tasks={**results.tasks, "hard": tasks})
    page = render(results, analyse(results), {})
    assert "&lt;b&gt;&amp;" in page and "&lt;/td&gt;" in page and "<b>&" not in page


def test_discoveries_bear_an_asterisk() -> None:
    results = study(tasks=8, resamples=10)
    analysed = analyse(results)
    assert analysed.discoveries["discoveries"] == render(results, analysed, {}).count("]*<") == 0
    chosen = analysed.entries.one(quantity=SECOND_DIFFERENCE, bank="hard", of="logit")
    rows = [row._replace(q=0.05) if row is chosen else row for row in analysed.entries]
    starred = replace(analysed, entries=Entries(rows))
    assert render(results, starred, {}).count("]*<") == 2  # its own table, and the table of all tested


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_any_number_of_rounds_makes_a_report(rounds: int) -> None:
    results = study(tasks=8, rounds=rounds)
    analysed = analyse(results)
    answered = [question for question in QUESTIONS if question.name in analysed.facts]
    figures = [figure for question in answered for figure in question.figures.items()]
    drawn = {name for name, make in figures if make(analysed) is not None}
    assert {"change_at_k", "round_gains"} <= drawn if rounds else not {"change_at_k", "round_gains"} & drawn
    assert ("Not measured: the study ran" in render(results, analysed, {})) == (rounds < 2)


def test_a_study_without_critic_or_training_figures_makes_a_report() -> None:
    results = replace(study(tasks=8), parts={}, stages=(), roles={}, config={}, provenance={})
    analysed = analyse(results)
    assert "selection" not in analysed.facts and learning_curves(analysed) is None
    assert "Not measured: no critic scored the study's candidates" in unescape(render(results, analysed, {}))
    assert "no critic scored the candidates" in render(results, analysed, {})
    assert comparison(analysed)[0].ours == "\N{EM DASH}"


def test_table_beside_the_paper_holds_our_figures() -> None:
    results = study(tasks=8)
    analysed = analyse(results)
    rows = {row.quantity: row for row in comparison(analysed)}
    row = rows["pass@8 on hard, gen_v0 to the last round"]
    ours = [
        analysed.entries.one(quantity=PASS, bank="hard", models=(model,), k=8).estimate
        for model in ("gen_v0", "v2")
    ]
    assert (row.paper, row.mark) == ("38.0 → 46.0", "secondary")
    assert row.ours == f"{100 * ours[0]:.1f} → {100 * ours[1]:.1f}"
    assert rows["critic minus naive pick, points"].mark == "stated"


def test_counts_read_as_a_sentence() -> None:
    assert listed({"easy": 200, "hard": 100, "withheld": 9}) == "200 easy, 100 hard and 9 withheld"
    assert listed({"hard": 64}) == "64 hard"


def test_pools_read_as_a_range() -> None:
    counts = {model: [[1, 2]] for model in ("theta0", "gen_v0", "v1")}
    assert pools(counted_study(counts, n=64)) == "64"
    assert pools(counted_study(counts, n={"theta0": 64, "gen_v0": 256, "v1": 32})) == "32 to 256"


def test_spread_of_the_design_in_points() -> None:
    names = [f"variance_of_{name}" for name in ("trajectories", "tasks", "residual")]
    assert spread({"estimate": 0.1, **dict(zip(names, (None, 0.04, None), strict=True))}) == "tasks 20.0"
    two = {"estimate": [0.1, 0.2], **{name: [0.01, 0.0004] for name in names}}
    assert spread(two) == "trajectories 10.0 and 2.0, tasks 10.0 and 2.0, residual 10.0 and 2.0"


@pytest.fixture(scope="module")
def crossed() -> tuple[Results, str]:
    """Results and page of a study of four trajectories with its null."""
    results = study(tasks=12, trajectories=4, doubled=True)
    analysed = analyse(results)
    return analysed, render(results, analysed, {})


def test_several_trajectories_are_said_and_drawn(crossed: tuple[Results, str]) -> None:
    analysed, page = crossed
    assert "4 trajectories" in page and "This trajectory" not in page and "One trajectory:" not in page
    assert analysed.findings["crossover"]["scope"] == "trajectories from this base"
    figure = pass_at_k_figure(analysed)
    assert figure is not None
    drawn = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata()))]  # not the legend's
    assert len(drawn) == 1 + 3 * (1 + 4)  # theta0 has no trajectories of its own
    no_null = Entries(row for row in analysed.entries if row.question != "null" or row.bank != "hard")
    with_null, without = (
        change_at_k(replace(analysed, entries=rows))
        for rows in (analysed.entries, no_null)
    )
    assert with_null is not None and without is not None
    more = [len(a.lines) - len(b.lines) for a, b in zip(with_null.axes, without.axes, strict=True)]
    assert more == [0, 4, 0]  # both ends of two rounds' null, on the hard bank, whose rows were left out


def test_page_holds_the_verdict_and_what_it_rests_on(crossed: tuple[Results, str]) -> None:
    analysed, page = crossed
    assert analysed.overall["sentence"] in page
    assert f"{analysed.overall['verdict']}</span>" in page
    assert analysed.facts["crossover"]["crossing"]["hard"]["sentence"] in page
    assert len(analysed.entries.where(question="ledger")) == 3 * 2 * 4
    assert page.count("<td>halvings</td>") == page.count("<td>pairs</td>") == 1
    assert f"{analysed.discoveries['tested']} numbers" in page
    assert page.count("<td>change of pass@k</td>") > 20
