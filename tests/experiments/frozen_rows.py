"""Where each number of the frozen findings, which are nested by question, stands among the rows.

A function a question takes its part out of the frozen findings, number by number: what it leaves is an error,
and so is a row that no frozen number is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from constellation.evaluation.entries import Entries, Entry

NUMBERS = ("estimate", "interval", "p", "q", "by_trajectory", "minimum_detectable_effect")


class Account:
    """The frozen findings as far as they are not accounted for, and what was wrong.

    Args:
        frozen: of a whole study.
        found: of the same study now.
        differences: (frozen, found, place) -> where two JSON values differ.
    """

    def __init__(self, frozen: dict, found: dict, differences: Callable[[Any, Any, str], Iterator[str]]):
        self.frozen, self.facts, self._differences = frozen, found["facts"], differences
        rows = [Entry(**{**row, "models": tuple(row["models"])}) for row in found["entries"]]
        self.entries, self._used = Entries(rows), set[int]()
        self.wrong: list[str] = []

    def same(self, frozen: Any, found: Any, place: str) -> None:
        """Two values are the same."""
        self.wrong += self._differences(frozen, found, place)

    def row(self, node: dict[str, Any], **fields: Any) -> None:
        """Takes a frozen entry's numbers: they are those of the one row with these fields."""
        row = self._one(fields)
        for name in NUMBERS:
            if row and name in node:
                self.same(node.pop(name), getattr(row, name), f"{fields}.{name}")

    def value(self, frozen: float, **fields: Any) -> None:
        """A frozen number that has no interval is the estimate of the one row with these fields."""
        row = self._one(fields)
        if row:
            self.same(frozen, row.estimate, f"{fields}")

    def tested(self, quantity: str) -> list[dict[str, Any]]:
        """Takes the exploratory entries whose quantity starts so out of the frozen list."""
        taken = [one for one in self.frozen["exploratory"] if one["quantity"].startswith(quantity)]
        self.frozen["exploratory"] = [one for one in self.frozen["exploratory"] if one not in taken]
        return taken

    def empty(self, node: Any, place: str) -> None:
        """Nothing is left of a part."""
        if not isinstance(node, (dict, list)):
            self.wrong.append(f"{place}: {node} is not accounted for")
            return
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            self.empty(value, f"{place}.{key}")

    def rows_left(self) -> list[str]:
        """Rows that no frozen number is."""
        return [f"new: {row}" for row in self.entries if id(row) not in self._used]

    def _one(self, fields: dict[str, Any]) -> Entry | None:
        try:
            row = self.entries.one(**fields)
        except LookupError as error:
            self.wrong.append(str(error))
            return None
        self._used.add(id(row))
        return row


def reach(account: Account) -> None:
    part, facts = account.frozen.pop("reach"), account.facts["reach"]
    for name in ("bank", "samples"):
        account.same(part[name], facts[name], name)
    choice, bank = account.frozen["analysis"], {"bank": part.pop("bank"), "question": "reach"}
    account.same(part.pop("budgets"), choice["reach_budgets"], "budgets")
    account.same(part.pop("at"), choice["reach_at"], "at")
    account.same(part.pop("samples"), facts["samples"], "samples")
    account.value(part.pop("programs_per_task"), quantity="known programs a task", of="all", **bank)
    of_samples = {
        "right": "share of samples that are right",
        "missing": "share of samples that are right by unknown programs",
        "good_turing": "Good-Turing bound of the unknown programs' probability",
    }
    for model, node in part["models"].items():
        for k, share in node.pop("pass_at_k").items():
            quantity = "pass@k of the samples beside reach"
            account.value(share, quantity=quantity, models=(model,), k=int(k), **bank)
        for name, quantity in of_samples.items():
            account.row(node[name], quantity=quantity, models=(model,), **bank)
        mass = {"quantity": "probability of the known programs", "of": "all"}
        account.row(node["mass"], models=(model,), **mass, **bank)
        for curve in (node["reach"], part["curve"][model]):
            for budget, entry in curve.items():
                account.row(entry, quantity="reach", models=(model,), k=int(budget), **bank)
    for model, before in part["change"].items():
        for start, curve in before.items():
            for budget, entry in curve.items():
                pair = (start, model)
                account.row(entry, quantity="change of reach", models=pair, k=int(budget), **bank)
    expansion = part["expansion"]
    where = {"models": (*expansion["before"], expansion["model"]), "k": choice["reach_at"], **bank}
    tested = {name: expansion.pop(name) for name in ("p", "q")}
    account.row(tested, quantity="expansion of reach over base and start", tested=True, **where)
    for name in list(expansion):
        account.same(expansion.pop(name), facts["expansion"][name], f"expansion.{name}")
    start = account.frozen["sequence"][1]
    for name, node in part["mass_ledger"].items():
        account.value(node.pop("programs"), quantity="known programs a task", of=name, **bank)
        for model, entry in node["mass"].items():
            quantity = "probability of the known programs"
            account.row(entry, quantity=quantity, models=(model,), of=name, **bank)
        for model, entry in node["reach"].items():
            account.row(entry, quantity="reach by a class of programs", models=(model,), of=name, **bank)
        for quantity, changes in (
            ("change of the known programs' probability", node["change"]),
            ("change of reach by a class of programs", node["reach_change"]),
        ):
            for model, entry in changes.items():
                pair = (start, model)
                account.row(entry, quantity=quantity, models=pair, of=name, tested=True, **bank)
    account.empty(part, "reach")
    for entry in account.tested("change of reach"):
        where = {"bank": entry.pop("bank"), "models": tuple(entry.pop("models")), "k": entry.pop("k")}
        account.row(entry, quantity=entry.pop("quantity"), tested=True, question="reach", **where)
        account.empty(entry, "change of reach")


def temperature(account: Account) -> None:
    part, facts = account.frozen.pop("temperature"), account.facts["temperature"]
    models = tuple(part.pop("models"))
    bank, pair = {"bank": part.pop("bank")}, {"models": models}
    both = "change of pass@k, both models at one temperature"
    raised = "change of pass@k, the later model at another temperature"
    at_best = "change of pass@k, each model at its best temperature"
    rest = "change of pass@k beyond that to the matched temperature"
    for value, node in part["crossover"].items():
        account.same(node.pop("verdict"), facts["crossover"][value]["verdict"], f"verdict at {value}")
        account.row(node, quantity="crossover, both models at one temperature", of=value, **bank, **pair)
        for k, entry in node["change_at_k"].items():
            account.row(entry, quantity=both, of=value, k=int(k), **bank, **pair)
    for k, node in part["best"].items():
        account.same(node.pop("temperature"), facts["best"][k], f"best temperatures at k = {k}")
        for model, entry in node["pass_at_k"].items():
            account.row(entry, quantity="pass@k at the best temperature", k=int(k), models=(model,), **bank)
        account.row(node["change"], quantity=at_best, k=int(k), **bank, **pair)
    for name in ("verdict", "sentence", "null"):
        account.same(part["sharpening"].pop(name), facts["sharpening"][name], f"sharpening.{name}")
    for value, curve in part["sharpening"]["from_start"].items():
        for k, entry in curve.items():
            account.row(entry, quantity=raised, of=value, k=int(k), **bank, **pair)
    for name in ("temperature", "clipped"):
        account.same(part["matched"].pop(name), facts["matched"][name], f"matched.{name}")
    for model, shares in part["matched"].pop("pass_at_1").items():
        for value, share in shares.items():
            account.value(share, quantity="pass@1 of tuning tasks", models=(model,), of=value)
    for k, entry in part["matched"]["sharpening"].items():
        to = {"quantity": "change of pass@k to the matched temperature", "models": (models[0],) * 2}
        account.row(entry, k=int(k), **bank, **to)
    for k, entry in part["matched"]["rest"].items():
        account.row(entry, quantity=rest, k=int(k), **bank, **pair)
    for name, now in (("own", "own"), ("samples", "samples"), ("tasks", "tuning_tasks")):
        account.same(part.pop(name), facts[now], name)
    account.same(part.pop("trajectories"), facts["trajectories"], "trajectories")
    account.empty(part, "temperature")
    for name, now in (
        ("change of pass@k, both at temperature ", both),
        (f"change of pass@k from temperature {facts['own']} to ", raised),
        (at_best.replace("each model", "each"), at_best),
        ("change of pass@k beyond that of the matched temperature", rest),
    ):
        for entry in account.tested(name):
            of = entry.pop("quantity").removeprefix(name)
            where = {"bank": entry.pop("bank"), "models": tuple(entry.pop("models")), "k": entry.pop("k")}
            account.row(entry, quantity=now, of=of, tested=True, **where)
            account.empty(entry, name)


QUESTIONS = (reach, temperature)
