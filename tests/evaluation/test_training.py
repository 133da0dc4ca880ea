from constellation.evaluation.analysis import resamples
from constellation.evaluation.training import training
from tests.evaluation.synthetic import study


def test_stages_are_averaged_over_trajectories() -> None:
    results = study(tasks=4, n=8, trajectories=4, resamples=10)
    _, facts = training(results, None, resamples(results))
    found = {stage["name"]: stage for stage in facts["stages"]}
    assert list(found) == ["theta0", "gen_v0", "v1", "v2", "critic"]
    assert found["v1"]["kept"] == round(1140 + (0 + 1 + 2 + 3) / 4)
    assert len(found["v1"]["losses"]) == 4 and len(found["critic"]["losses"]) == 1
    assert found["theta0"]["samples"] is None
