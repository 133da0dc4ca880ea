from dataclasses import replace

import numpy as np

from constellation.evaluation.cases import cases
from constellation.evaluation.selection import Selectors
from constellation.evaluation.study import AnalysisConfig, SetKey, TaskInfo
from tests.evaluation.synthetic import sample_set, study


def test_shows_the_first_task_of_each_situation() -> None:
    rows = [
        ["junk", "bad", "bad", "junk"],  # no survivor
        ["fits:x:1", "right a", "right a", "junk"],  # the critic saves it
        ["fits:x:1", "right a", "bad", "junk"],  # again: not shown
        ["right a", "fits:x:1", "bad", "junk"],  # the critic spoils it
    ]
    samples = sample_set([[*row, "junk", "right a"] for row in rows])
    scores = np.full(len(samples.text), np.nan)
    for t, best in enumerate([None, "right a", "right a", "fits:x:1"]):
        for p in np.flatnonzero(samples.fits & (samples.task == t)):
            scores[p] = 1.0 if samples.text[p] == best else -1.0
    key = SetKey("hard", "gen_v0", 1234)
    base = study(tasks=4, n=8)
    models = {SetKey("hard", model, 1234): samples for model in base.models}
    results = replace(
        base,
        tasks={"hard": [TaskInfo(f"task{t}", 3, (), True, "x", (), ()) for t in range(4)]},
        samples=models,
        parts={"selection": Selectors("gen_v0", {key: {"critic": scores}})},
        analysis=AnalysisConfig(small_k=4, large_k=6),
    )
    shown = cases(results)
    assert [case.task.id for case in shown] == ["task1", "task3", "task0"]
    first = shown[0].candidates
    assert [(c.text, c.count, c.total, c.verdict) for c in first] == [
        ("fits:x:1", 1, 1, "fits only"),
        ("right a", 2, 3, "generalises"),
        ("junk", 1, 2, "no program"),
    ]
    assert [c.picked_by for c in first] == [("first survivor",), ("critic",), ()]
    assert [c.outputs for c in first] == ["A", "B", ""] and [c.score for c in first] == [-1.0, 1.0, None]
    assert [c.probes for c in first] == [None, 64, None]
    assert all(not c.picked_by for c in shown[2].candidates)
    assert len(cases(replace(results, analysis=AnalysisConfig(small_k=4, large_k=6, shown_tasks=1)))) == 1
