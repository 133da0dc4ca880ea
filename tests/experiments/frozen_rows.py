"""Where each number of the frozen findings, which are nested by question, stands among the rows.

A function a question takes its part out of the frozen findings, number by number: what it leaves is an error,
and so is a row that no frozen number is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from constellation.evaluation.entries import Entry, rows_of

FIRST_AND_LAST, SMALL = ("gen_v0", "v2"), 2  # of the frozen study
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
        self.entries, self._used = rows_of(found), set[int]()
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

    def repeated(self, prefix: str, quantity: str, **fields: Any) -> None:
        """Takes the exploratory entries whose quantity starts so: they repeat numbers that have a row.

        What follows the prefix is the `of` of the row, where `fields` do not say it.
        """
        taken = [one for one in self.frozen["exploratory"] if one["quantity"].startswith(prefix)]
        self.frozen["exploratory"] = [one for one in self.frozen["exploratory"] if one not in taken]
        if not taken:
            self.wrong.append(f"no exploratory {prefix}")
        for node in taken:
            where = {"of": node.pop("quantity").removeprefix(prefix)} | fields
            where |= {"bank": node.pop("bank"), "models": tuple(node.pop("models")), "k": node.pop("k")}
            self.row(node, quantity=quantity, tested=True, **where)
            self.empty(node, prefix)

    def expansion(self, node: dict[str, Any], claim: dict[str, Any], **fields: Any) -> None:
        """Takes a claim of expansion: its p is that of a row, the rest stands in the facts."""
        models = (*node["before"], node["model"])
        where = {"models": models, "k": self.frozen["analysis"]["reach_at"], **fields}
        tested = {name: node.pop(name) for name in ("p", "q")}
        self.row(tested, quantity="expansion of reach over base and start", tested=True, **where)
        for name in list(node):
            self.same(node.pop(name), claim[name], f"expansion of {models[-1]}, {name}")

    def ledger(self, node: dict[str, Any], **fields: Any) -> None:
        """Takes a mass ledger's numbers."""
        start = self.frozen["sequence"][1]
        for name, own in node.items():
            self.value(own.pop("programs"), quantity="known programs a task", of=name, **fields)
            for part, quantity in (
                ("mass", "probability of the known programs"),
                ("reach", "reach by a class of programs"),
            ):
                for model, entry in own[part].items():
                    self.row(entry, quantity=quantity, models=(model,), of=name, **fields)
            for part, quantity in (
                ("change", "change of the known programs' probability"),
                ("reach_change", "change of reach by a class of programs"),
            ):
                for model, entry in own[part].items():
                    self.row(entry, quantity=quantity, models=(start, model), of=name, tested=True, **fields)

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
    account.expansion(part["expansion"], facts["expansion"], **bank)
    account.ledger(part["mass_ledger"], **bank)
    account.empty(part, "reach")
    account.repeated("change of reach", "change of reach", question="reach")


def controls(account: Account) -> None:
    part, facts = account.frozen.pop("controls"), account.facts["controls"]
    question, start = {"question": "controls"}, account.frozen["sequence"][1]
    for bank, curves in part["change_at_k"].items():
        for model, by_k in curves.items():
            where = {"quantity": "difference of pass@k", "bank": bank, "models": (start, model), **question}
            for k, entry in by_k.items():
                account.row(entry, k=int(k), **where)
    for entry in part["changes"]:
        where = {name: entry.pop(name) for name in ("quantity", "bank", "k")} | {"tested": True}
        account.row(entry, models=tuple(entry.pop("models")), **where, **question)
    for entry in part["critic"]:
        account.same(entry.pop("quantity"), "critic minus first survivor", "the critics' quantity")
        where = {name: entry.pop(name) for name in ("bank", "k")} | {"tested": True, "models": ("gen_v0",)}
        null, *rest = entry.pop("models")
        of = f"critic minus {null}" if rest else null
        quantity = "difference between two selectors" if rest else "gain over the first survivor"
        account.row(entry, quantity=quantity, of=of, **where, **question)
    for bank, node in part["reach"].items():
        own = {"bank": bank, **question}
        for model, by_budget in node["change"].items():
            for budget, entry in by_budget.items():
                where = {"quantity": "change of reach", "models": (start, model), "k": int(budget)}
                account.row(entry, **where, **own)
        for entry in node["differences"]:
            account.same(entry.pop("quantity"), "difference of reach", "quantity of reach")
            where = {"bank": entry.pop("bank"), "models": tuple(entry.pop("models")), "k": entry.pop("k")}
            account.row(entry, quantity="change of reach", tested=True, **where, **question)
        for model, expansion in node["expansion"].items():
            claim = facts["expansion"][bank][model]
            account.expansion(expansion, claim, **own)
        account.ledger(node["mass_ledger"], **own)
    account.same(part.pop("trajectories"), facts["trajectories"], "trajectories")
    account.empty(part, "controls")
def null(account: Account) -> None:
    part, facts, choice = account.frozen.pop("null"), account.facts["null"], account.frozen["analysis"]
    start = account.frozen["sequence"][1]
    statistics = {
        "second difference": "null of the gain minus the gain before",
        "critic gain": "null of the critic's gain",
    }
    for kind, banks in part.items():
        for bank, node in banks.items():
            where = {"of": kind, "bank": bank, "models": (start,)}
            account.value(node.pop("replicates"), quantity="pseudo-studies of a null", **where)
            for name, entry in node.pop("statistics").items():
                quantity = statistics.get(name, "null of the change of pass@k")
                k = choice["small_k"] if name in statistics else int(name.removeprefix("change of pass@"))
                if entry:
                    account.row(entry, quantity=quantity, k=k, **where)
                    account.empty(entry, name)
            for ending, rates in (("", "rates"), (", corrected", "adjusted_rates"), ("", "overall")):
                for name, share in node.pop(rates).items():
                    if share is not None:
                        quantity = f"null rate of {name.replace('_', ' ')}{ending}"
                        account.value(share, quantity=quantity, **where)
    for bank, node in part["halvings"].items():
        account.same(node.pop("samples"), facts["samples"][bank], "samples")
        where = {"of": "halvings", "bank": bank}
        for name in ("tasks_gained", "tasks_lost", "tasks_significantly_changed"):
            account.row(node[name], quantity=f"null of the {name.replace('_', ' ')}", **where)
        account.value(node.pop("sign_test_rate"), quantity="null rate of the sign test", **where)
        for model, curve in node.pop("change_at_k").items():
            for k, ends in curve.items():
                models = {"models": (start, model), "quantity": "null of the change of pass@k"}
                account.row({"interval": ends}, k=int(k), **models, **where)
        for model, scales in node["gains"].items():
            before = account.frozen["sequence"][account.frozen["sequence"].index(model) - 1]
            where = {"quantity": "null of the gain over the model before", "models": (before, model)}
            for scale, entry in scales.items():
                of = "" if scale == "gain" else scale.replace("_", " ")
                account.row(entry, of=of, bank=bank, **where)
    account.empty(part, "null")
    another_warm_start(account)


def another_warm_start(account: Account) -> None:
    part, facts, choice = (
        account.frozen.pop("another_warm_start"),
        account.facts["null"],
        account.frozen["analysis"],
    )
    of = {"of": "another warm start"}
    account.same(part.pop("trajectories"), facts["restarted"], "trajectories")
    for bank, curve in part.pop("change_at_k").items():
        for k, ends in curve.items():
            quantity = "null of the change of pass@k"
            account.row({"interval": ends}, quantity=quantity, bank=bank, k=int(k), **of)
    reach = part["reach"]
    account.same(reach.pop("replicates"), choice["halvings"], "replicates")
    account.value(reach.pop("rate"), quantity="null rate of expansion of reach", **of)
    account.value(reach.pop("rate_over_start"), quantity="null rate of reach above the start", **of)
    changes = {"quantity": "null of the change of reach", **of}
    account.row(reach["statistic"], k=choice["reach_at"], **changes)
    for budget, ends in reach.pop("change").items():
        account.row({"interval": ends}, k=int(budget), **changes)
    for name, node in part["mass_ledger"].items():
        for change, quantity in (
            ("change", "null of the change of the known programs' probability"),
            ("reach_change", "null of the change of reach by a class of programs"),
        ):
            account.row(node[change], quantity=quantity, of=name)
    account.empty(part, "another_warm_start")


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
        account.repeated(name, now)


def curves(account: Account) -> None:
    for name, quantity in (("pass_at_k", "pass@k"), ("visible_fit_at_k", "visible-fit@k")):
        values, intervals = account.frozen.pop(name), account.frozen.pop(f"{name}_interval")
        of_trajectories = account.frozen.pop(f"{name}_by_trajectory", None)
        for bank, models in values.items():
            for model, by_k in models.items():
                each = of_trajectories[bank][model] if of_trajectories else []
                for i, (k, value) in enumerate(by_k.items()):
                    entry = {"estimate": value, "interval": intervals[bank][model].pop(k)}
                    entry["by_trajectory"] = [curve[i] for curve in each] or None
                    account.row(entry, quantity=quantity, bank=bank, models=(model,), k=int(k))
                account.empty(intervals[bank][model], name)
    facts = account.facts["curves"]["tasks_of_parts"]
    for bank, parts in (subsets := account.frozen.pop("subsets")).items():
        for part, node in parts.items():
            account.same(node.pop("tasks"), facts[bank][part], f"tasks of {part}")
            where = {"bank": bank, "of": part}
            for model, by_k in node["pass_at_k"].items():
                for k, entry in by_k.items():
                    quantity = "pass@k on a part of the bank"
                    account.row(entry, quantity=quantity, models=(model,), k=int(k), **where)
            for k, entry in node["change"].items():
                quantity = "change of pass@k on a part of the bank"
                account.row(entry, quantity=quantity, models=FIRST_AND_LAST, k=int(k), **where)
    account.empty(subsets, "subsets")


def crossover(account: Account) -> None:
    for bank, models in (changes := account.frozen.pop("change_at_k")).items():
        for model, by_k in models.items():
            for k, entry in by_k.items():
                where = {"quantity": "change of pass@k", "bank": bank, "models": ("gen_v0", model)}
                account.row(entry, k=int(k), **where)
    account.empty(changes, "change_at_k")
    account.repeated("change of pass@k", "change of pass@k")
    account.same(account.frozen.pop("crossing"), account.facts["crossover"]["crossing"], "crossing")


def gains(account: Account) -> None:
    gain, difference = "gain over the model before", "gain minus the gain before"
    for bank, rounds in (found := account.frozen.pop("gains")).items():
        for node in rounds:
            models = (node.pop("from"), node.pop("to"))
            for k, entry in node["ks"].items():
                account.row(entry, quantity=gain, bank=bank, models=models, k=int(k), of="")
    account.empty(found, "gains")
    scales = {"gain": "", "share_of_headroom": "share of headroom", "logit": "logit"}
    for bank, node in (found := account.frozen.pop("headroom")).items():
        for entry in node["rounds"]:
            models = (entry.pop("from"), entry.pop("to"))
            for scale, of in scales.items():
                account.row(entry[scale], quantity=gain, bank=bank, models=models, k=SMALL, of=of)
        for entry in node["changes"]:
            models = tuple(entry.pop("models"))
            for scale, of in scales.items():
                account.row(entry[scale], quantity=difference, bank=bank, models=models, k=SMALL, of=of)
    account.empty(found, "headroom")
    account.repeated(difference, difference, of="")


def ledger(account: Account) -> None:
    for bank, models in account.frozen.pop("ledger").items():
        for model, trajectories in models.items():
            facts = account.facts["ledger"][bank][model]
            assert len(facts) == len(trajectories)
            for k, node in enumerate(trajectories):
                balance = {"p": node.pop("p"), "q": node.pop("q"), "estimate": node["gained"] - node["lost"]}
                where = {"bank": bank, "models": ("gen_v0", model), "of": str(k)}
                account.row(balance, quantity="tasks gained minus tasks lost", **where)
                account.same(node, facts[k], f"ledger {where}")


def correctness(account: Account) -> None:
    for bank, models in (found := account.frozen.pop("false_generalising")).items():
        for model, entry in models.items():
            probed, where = entry.pop("probed_samples_per_task"), {"bank": bank, "models": (model,)}
            account.value(probed, quantity="generalising samples of a task that were probed", **where)
            erring = "share of generalising samples that err on a probe input"
            account.row(entry, quantity=erring, **where)
    account.empty(found, "false_generalising")


def diversity(account: Account) -> None:
    found, facts = account.frozen.pop("diversity"), account.facts["diversity"]
    counted, rarefied = (
        "distinct correct programs of a solved task",
        "distinct correct programs at a fixed number of correct samples",
    )
    for name, node in found["data"].items():
        for quantity, part, tasks in (
            (counted, "distinct", "solved_tasks"),
            (rarefied, "rarefied", "rarefied_tasks"),
        ):
            account.same(node.pop(tasks), facts["data_tasks"][name][quantity], f"{tasks} of {name}")
            account.row(node[part], quantity=quantity, bank="STaR data", models=(name,))
    for bank, node in found["banks"].items():
        account.same(node.pop("tasks"), facts["bank_tasks"][bank], f"tasks of {bank}")
        for model, entry in node["models"].items():
            account.row(entry, quantity=rarefied, bank=bank, models=(model,))
    account.empty(found, "diversity")


def training(account: Account) -> None:
    for name in ("stages", "roles"):
        account.same(account.frozen.pop(name), account.facts["training"][name], name)


def critics(account: Account) -> None:
    part, facts = account.frozen.pop("critic_variants"), account.facts["critics"]
    gain, room, lead = "gain over the first survivor", "share of the room", "difference between two selectors"
    for number, ks in part["visible"].items():
        account.same(f"gen_v0, {number} visible", facts["visible"][number], f"name at {number} visible")
        for k, node in ks.items():
            where = {"question": "critics", "k": int(k), "models": (f"gen_v0, {number} visible",)}
            account.row(node["naive"], quantity="accuracy of the pick", of="naive", **where)
            account.row(node["share"], quantity=room, of="critic", **where)
            account.value(node.pop("divergent_share"), quantity="divergent tasks", **where)
            for name in ("critic", "majority", "oracle"):
                account.row(node[name], quantity=gain, of=name, tested=name != "oracle", **where)
    for name, node in part["critics"].items():
        account.same(node["model"], facts["critics"][name], f"model of {name}")
        where = {"question": "critics", "bank": node.pop("bank"), "models": (node.pop("model"),)}
        for k, at in node["ks"].items():
            for of, critic, tested in (("fixed", "critic", False), ("variant", name, True)):
                account.row(at[of]["gain"], quantity=gain, of=critic, k=int(k), tested=tested, **where)
                account.row(at[of]["share"], quantity=room, of=critic, k=int(k), **where)
            account.row(at["difference"], quantity=lead, of=f"{name} minus critic", k=int(k), **where)
    for entry in part["changes"]:
        name = entry.pop("quantity").removesuffix(" minus first survivor")
        before, after = entry.pop("models")
        where = {"question": "critics", "bank": entry.pop("bank"), "k": entry.pop("k"), "tested": True}
        if before == "critic":
            account.row(entry, quantity=lead, of=f"{after} minus {before}", **where)
        else:
            pair = (f"gen_v0, {before}", f"gen_v0, {after}")
            account.row(
                entry, quantity="change of the gain over the first survivor", of=name, models=pair, **where
            )
    for name in ("trajectories", "own_visible"):
        account.same(part.pop(name), facts[name], name)
    account.empty(part, "critic_variants")


def filtering(account: Account) -> None:
    part, start = account.frozen.pop("beyond_filtering"), account.frozen["sequence"][1]
    for name in ("bank_atoms", "star_atoms"):
        account.same(part.pop(name), account.facts["filtering"][name], name)
    measured = "pass@k under the primary split"
    of_banks: dict[str, tuple[str, tuple[str, ...]]] = {
        "pass_at_k": ("pass@k of the ideal sampler", ()),
        "start": (measured, (start,)),
        "start_minus_ideal": ("pass@k minus that of the ideal sampler", (start,)),
    }
    for bank, node in part["ceiling"].items():
        secret = "probability that an ideal critic gives the hidden program's outputs"
        account.row(node["secret"], quantity=secret, bank=bank, models=())
        for name, (quantity, models) in of_banks.items():
            for k, entry in node[name].items():
                account.row(entry, quantity=quantity, bank=bank, models=models, k=int(k))
    for bank, rounds in part["forecast"].items():
        for model, node in rounds.items():
            for k, entry in node.pop("measured").items():
                account.row(entry, quantity=measured, bank=bank, models=(model,), k=int(k))
            for name, own in node.items():
                where = {"bank": bank, "of": name, "question": "filtering"}
                for k, share in own.pop("lower_bound").items():
                    bound = "share of tasks whose forecast is a lower bound"
                    account.value(share, quantity=bound, models=(model,), k=int(k), **where)
                for kind, quantity, models in (
                    ("pass_at_k", "forecast of pass@k", (model,)),
                    ("change", "forecast of the change of pass@k", (start, model)),
                    ("residual", "pass@k minus its forecast", (model,)),
                ):
                    for k, entry in own[kind].items():
                        at = {"quantity": quantity, "models": models, "k": int(k)}
                        account.row(entry, tested="p" in entry, **at, **where)
    account.empty(part, "beyond_filtering")


def divergence(account: Account) -> None:
    for bank, models in (found := account.frozen.pop("divergence")).items():
        for model, by_k in models.items():
            for k, entry in by_k.items():
                where = {"quantity": "share of groups that diverge", "bank": bank, "models": (model,)}
                account.row(entry, k=int(k), **where)
    account.empty(found, "divergence")


def selection(account: Account) -> None:
    part, facts = account.frozen.pop("selectors"), account.facts["selection"]
    accuracy, gain = "accuracy of the pick", "gain over the first survivor"
    room, question = "share of the room", {"question": "selection"}
    quantities = {"overall": accuracy, "gain": gain, "on_divergent": f"{accuracy} on divergent tasks"}

    def places(of_banks: dict) -> Iterator[tuple[Any, dict]]:
        for bank, models in of_banks.items():
            for model, by_k in models.items():
                for k, node in by_k.items():
                    yield node, {"bank": bank, "models": (model,), "k": int(k)} | question

    for node, where in places(found := account.frozen.pop("selection")):
        account.value(node.pop("divergent_share"), quantity="divergent tasks", **where)
        for name, entries in node["selectors"].items():
            for column, entry in entries.items():
                account.row(entry, quantity=quantities[column], of=name, **where)
    account.empty(found, "selection")
    for node, where in places(part["rivals"]):
        for name, entry in node.items():
            account.same(entry.pop("rival"), facts["rivals"][str(where["k"])][name], f"rival of {name}")
            account.row(entry, quantity="difference from the unlearned rival", of=name, **where)
    for node, where in places(part["room"]):
        account.row(node["all"], quantity=room, of="critic", **where)
        if node["fixed"] is None:
            node.pop("fixed")
        else:
            account.row(node["fixed"], quantity=room, of="critic, fixed tasks", **where)
    claim = part["extension"]
    account.same(claim["model"], facts["model"], "model of the extension")
    models = {"models": (claim["model"],), "k": claim["k"]}
    for name, share in claim.pop("tuning_accuracy").items():
        account.value(share, quantity=accuracy, bank="tuning", of=name, **models)
    rate = claim.pop("false_positive_rate")
    account.value(rate, quantity="null rate of a lead over the rival", bank=claim["bank"], **models)
    opening, sentence = facts["extension"].pop("sentence").split(": ")
    account.same(claim.pop("sentence"), sentence[0].upper() + sentence[1:], f"sentence after {opening}")
    for name in list(claim):
        account.same(claim.pop(name), facts["extension"][name], f"extension, {name}")
    for name in ("tuning_tasks", "information", "learned"):
        account.same(part.pop(name), facts[name], name)
    calibration(account, part.pop("calibration"))
    account.empty(part, "selectors")
    names = [name for name in facts["information"] if name not in ("naive", "oracle")]
    for name in names:
        account.repeated(f"{name} minus first survivor", gain, of=name, **question)
    account.repeated("", "difference between two selectors", **question)
    account.empty(account.frozen.pop("exploratory"), "exploratory")


def calibration(account: Account, part: dict[str, Any]) -> None:
    figures = {
        "brier": "Brier score",
        "within_bin": "Brier score within bins",
        "expected_calibration_error": "calibration error",
    }
    for bank, models in part.items():
        for model, node in models.items():
            where = {"question": "calibration", "bank": bank, "models": (model,)}
            rows = account.entries.where(quantity="what is so in a bin", **where)
            cells = node.pop("bins")
            account.same(len(cells), len(rows), f"bins of {model}")
            for cell, row in zip(cells, rows, strict=False):
                account.value(cell.pop("share"), quantity="samples in a bin", of=row.of, **where)
                said = "what the critic says in a bin"
                account.value(cell.pop("forecast"), quantity=said, of=row.of, **where)
                account.row(cell["observed"], quantity=row.quantity, of=row.of, **where)
            account.empty(cells, "bins")
            for name, entry in node.items():
                account.row(entry, quantity=figures.get(name, name), **where)
    account.empty(part, "calibration")


QUESTIONS = (
    temperature,
    curves,
    crossover,
    gains,
    ledger,
    correctness,
    diversity,
    training,
    reach,
    controls,
    null,
    critics,
    filtering,
    divergence,
    selection,  # at the end, as it takes what is left of the exploratory entries
)
