"""The whole study on another domain, which is a value, and on one that cannot judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constellation.experiments.check import check
from constellation.experiments.files import SAMPLES, TASKS, numbered
from constellation.experiments.run import run
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.reverse_words import DOMAIN
from tests.tiny_study import Untrained, tiny_config, write_tiny_model

ANOTHER = {"domain": "tests.reverse_words", "tasks__banks": "easy,hard"}


def test_the_whole_study_runs_on_another_domain(tmp_path: Path) -> None:
    config = tiny_config(write_tiny_model(tmp_path / "model"), **ANOTHER, prompt__description=True)
    page = run(config, str(tmp_path / "study"), compute=Untrained(tmp_path / "study")).read_text()
    assert "<h2" in page and "No question" not in page
    findings = json.loads((tmp_path / "study/findings.json").read_text())
    assert findings["tasks"] == {"easy": 4, "hard": 4}
    stages = tmp_path / "study/stages"
    tasks = [json.loads(line) for line in (stages / "bank_hard" / TASKS).read_text().splitlines()]
    assert [task["id"] for task in tasks] == [task.id for task in DOMAIN.make_bank("hard", 4, seed=2)]
    drawn = SampleSet.load(
        stages / "v1_samples" / numbered(SAMPLES, 0), stages / "v1_samples" / numbered("verdicts.npz", 0)
    )
    assert drawn.right.any() and not drawn.right.all()


def test_star_needs_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "words.py").write_text(
        "from tests.reverse_words import DOMAIN as JUDGED\nDOMAIN = JUDGED.unjudged()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny_config(tmp_path, **(ANOTHER | {"domain": "blind.words"}))
    with pytest.raises(UserError, match=r"config\.domain = 'blind\.words' must be a domain with a judge"):
        check(config)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"tasks__banks": "easy,hard,withheld"}, "tasks.banks"),
        ({"questions": "reach"}, "questions"),
        ({"questions": "selectors"}, "questions"),
        ({"questions": "controls"}, "tasks.banks"),
        ({"star__max_atoms": 5}, "star.max_atoms"),
    ],
)
def test_what_a_domain_lacks_is_refused(tmp_path: Path, fields: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=rf"config\.{named} = "):
        check(tiny_config(tmp_path, **(ANOTHER | fields)))
