from collections.abc import Iterator
from typing import Any

import pytest

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.critic_gain import picks
from constellation.evaluation.curves import change
from constellation.evaluation.exploratory import exploratory
from constellation.evaluation.study import StudyResults
from tests.evaluation.counted import counted_study
from tests.evaluation.synthetic import study


@pytest.fixture(scope="module")
def results() -> StudyResults:
    return study(rounds=3, trajectories=2)


@pytest.fixture(scope="module")
def entries(results: StudyResults) -> list[dict]:
    return exploratory(results, resamples(results), picks(results))


def of(entries: list[dict], quantity: str) -> set[tuple]:
    return {(e["bank"], *e["models"], e["k"]) for e in entries if e["quantity"] == quantity}


def test_holds_all_that_is_not_primary(entries: list[dict]) -> None:
    ks, banks = {1, 2, 4, 8, 16}, ("easy", "hard", "withheld")
    changes = {(bank, "gen_v0", f"v{i}", k) for bank in banks for i in (1, 2, 3) for k in ks}
    assert of(entries, "change of pass@k") == changes - {("hard", "gen_v0", "v3", k) for k in (8, 16)}
    sequences = (("gen_v0", "v1", "v2"), ("v1", "v2", "v3"))
    triples = {(bank, *models, k) for bank in banks for models in sequences for k in (1, 8)}
    assert of(entries, "gain minus the gain before") == triples - {("hard", "gen_v0", "v1", "v2", 8)}
    critic = {
        (bank, model, k) for bank in ("easy", "hard") for model in ("gen_v0", "v3") for k in (2, 4, 8, 16, 32)
    }
    assert of(entries, "critic minus first survivor") == critic - {("hard", "gen_v0", 8)}


def test_p_is_two_sided_and_q_adjusted_over_all(results: StudyResults, entries: list[dict]) -> None:
    estimate = resamples(results)("withheld", change(results, "withheld", "v1", [4])[..., 0])
    entry = next(e for e in entries if (e["bank"], e["k"], e["models"][-1]) == ("withheld", 4, "v1"))
    assert entry["estimate"] == pytest.approx(float(estimate.value))
    assert entry["p"] == pytest.approx(min(1, 2 * min(float(estimate.p_above), float(estimate.p_below))))


def test_q_is_adjusted_over_every_exploratory_number_of_the_report() -> None:
    whole = analyse(study(controlled=1, exact=True, selectors=True, tasks=8, resamples=100))

    def adjusted(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict) and "q" in part:
            yield part
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from adjusted(inner)

    of_reach = [row for row in whole.entries.where(question="reach") if row.q is not None]
    found = [*adjusted(whole), *(row.as_json() for row in whole.entries if row.q is not None)]
    lists = [whole["exploratory"], *(whole["controls"][part] for part in ("changes", "critic"))]
    assert all(part and all("q" in entry for entry in part) for part in lists)
    counts = {name: len(list(adjusted(part))) for name, part in whole.items()}
    assert counts["beyond_filtering"] == 2 * 2 * 3  # rounds, forecasts, and k = 1, 8, 16 of 32 samples
    assert counts["headroom"] == 3 * 2  # banks, scales but for the plain one
    assert counts["gains"] == 3 * 2  # banks, k; of the second round
    assert counts["ledger"] == 3 * 2  # banks, rounds
    classes = len({row.of for row in of_reach if row.of})
    assert (
        len(of_reach) == 1 + 2 * 2 * 3 + 2 * 2 * classes
    )  # expansion; rounds, befores, B; mass and its reach
    assert all("q" in entry for entry in whole["controls"]["reach"]["hard"]["expansion"].values())
    assert counts["subsets"] and counts["selectors"] and "q" not in whole["selectors"]["extension"]
    assert not counts["findings"] and not counts["overall"]
    assert whole["discoveries"] == {
        "tested": len(found),
        "discoveries": sum(entry["q"] <= 0.05 for entry in found),
    }
    p = sorted(e["p"] for e in found)
    for e in found:  # Benjamini & Hochberg: the smallest m p_(j) / j of any rank from its own on
        expected = min(len(p) * p[j] / (j + 1) for j in range(len(p)) if p[j] >= e["p"])
        assert e["q"] == pytest.approx(min(1, expected), abs=1e-5)


def test_every_selector_has_its_lead_tested() -> None:
    drawn = study(selectors=True, tasks=8, resamples=100)
    bootstrap, picked = resamples(drawn), picks(drawn)
    found = {e["quantity"]: e for e in exploratory(drawn, bootstrap, picked) if " minus " in e["quantity"]}
    accuracy = picked["hard", "gen_v0", 8].accuracy
    others = set(accuracy) - {"critic", "naive", "oracle"}
    wanted = {f"{name} minus first survivor" for name in (*others, "critic")}
    wanted |= {f"critic minus {name}" for name in others} | {"critic_mass minus majority"}
    assert {name for name in found if "gain" not in name} == wanted
    lead = bootstrap("hard", (accuracy["critic"] - accuracy["majority"]).mean(0))
    assert found["critic minus majority"]["estimate"] == pytest.approx(float(lead.value))


def test_no_k_beyond_half_the_samples() -> None:
    counts = {"theta0": [[1, 2]], "gen_v0": [[1, 3]], "v1": [[1, 2]], "v2": [[3, 4]]}
    results = counted_study(counts, n={"theta0": 32, "gen_v0": 32, "v1": 16, "v2": 32})
    found = exploratory(results, resamples(results), {})
    assert of(found, "change of pass@k") == {("hard", "gen_v0", "v1", k) for k in (1, 2, 4, 8)} | {
        ("hard", "gen_v0", "v2", k) for k in (1, 2, 4)
    }


def test_a_study_without_rounds_has_none() -> None:
    results = counted_study({"theta0": [[0, 1]], "gen_v0": [[1, 2]]})
    assert exploratory(results, resamples(results), {}) == []
    assert results.rounds == ()
