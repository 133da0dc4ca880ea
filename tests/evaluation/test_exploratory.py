from collections.abc import Iterator
from typing import Any

import pytest

from constellation.evaluation.analysis import analyse, resamples
from constellation.evaluation.controls import DIFFERENCE
from constellation.evaluation.critic_gain import GAIN, LEAD, picks
from constellation.evaluation.exploratory import exploratory
from constellation.evaluation.reach import EXPANSION
from tests.evaluation.synthetic import study


def of(entries: list[dict], quantity: str) -> set[tuple]:
    return {(e["bank"], *e["models"], e["k"]) for e in entries if e["quantity"] == quantity}


def test_holds_all_of_the_critic_that_is_not_primary() -> None:
    results = study(rounds=3, trajectories=2)
    entries = exploratory(results, resamples(results), picks(results))
    critic = {
        (bank, model, k) for bank in ("easy", "hard") for model in ("gen_v0", "v3") for k in (2, 4, 8, 16, 32)
    }
    assert of(entries, "critic minus first survivor") == critic - {("hard", "gen_v0", 8)}


def test_q_is_adjusted_over_every_exploratory_number_of_the_report() -> None:
    whole = analyse(study(controlled=1, exact=True, selectors=True, tasks=8, resamples=100))

    def adjusted(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict) and "q" in part:
            yield part
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from adjusted(inner)

    of_reach = [row for row in whole.entries.where(question="reach") if row.q is not None]
    rows = whole.entries.where(tested=True)
    assert all(row.q is not None for row in rows)
    assert not [row for row in whole.entries if row.q is not None and not row.tested]
    found = [*adjusted(dict(whole)), *({"p": row.p, "q": row.q} for row in rows)]
    of_controls = rows.where(question="controls").values("quantity")
    assert {DIFFERENCE, GAIN, LEAD, EXPANSION} <= set(of_controls)
    assert whole["exploratory"] and all("q" in entry for entry in whole["exploratory"])
    counts = {name: len(list(adjusted(part))) for name, part in whole.items()}
    assert len(rows.where(question="filtering")) == 2 * 2 * 3  # rounds, forecasts, and k = 1, 8, 16 of 32
    assert len(rows.where(question="ledger")) == 3 * 2  # banks, rounds
    assert rows.where(question="curves") and not rows.where(question="correctness")
    classes = len({row.of for row in of_reach if row.of})
    # expansion; rounds, befores, B; mass and its reach
    assert len(of_reach) == 1 + 2 * 2 * 3 + 2 * 2 * classes
    assert counts["selectors"] and "q" not in whole["selectors"]["extension"]
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
