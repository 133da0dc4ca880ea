"""How the stages of the oracle's study are wired: what two of them share, and in what they must differ.

A row compares two computations, or the stages that hold their results, in every trajectory that both have.
What it says they share is the same in each; what it says differs, differs in one at least: a permutation of a
few labels may leave them as they were.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Row = tuple[str, str, str, str]  # a computation, another, the parts that they share, those that differ
Calls = Mapping[str, Mapping[str, Any]]

HARD, WITHHELD = "samples_{}_hard_1234", "samples_{}_withheld_1234"
# what draws share, and in what they differ
OTHER_SPLIT = ("adapter tasks", "prompts key")
OTHER_BANK = ("adapter key", "tasks prompts")  # a task is folded into the key
OTHER_MODEL = ("tasks prompts", "adapter key")
AGAIN = ("adapter tasks prompts", "key")
OTHER_TEMPERATURE = ("adapter tasks prompts key n", "temperature")  # all share their noise

DRAWS: tuple[Row, ...] = (
    # a round draws on fresh tasks, with the generator before it
    ("v2_samples", "v1_samples", "n", "adapter tasks prompts key"),
    ("v1_4_atoms_samples", "v1_samples", "adapter n", "tasks prompts key"),
    ("v2_4_atoms_samples", "v2_samples", "n", "adapter tasks prompts key"),
    ("own_withheld_samples", "v1_samples", "adapter n", "tasks prompts key"),
    ("critic_samples", "v1_samples", "adapter", "tasks prompts key"),
    ("refreshed_critic_v2_samples", "critic_samples", "tasks prompts n", "adapter key"),
    # a model answers each bank, and the hard one under each split seed
    *((f"samples_{model}_hard_7", HARD.format(model), *OTHER_SPLIT)
      for model in ("theta0", "gen_v0", "v1", "v2", "v2_4_atoms")),
    ("samples_gen_v0_hard_9", HARD.format("gen_v0"), *OTHER_SPLIT),
    ("samples_gen_v0_hard_9", "samples_gen_v0_hard_7", *OTHER_SPLIT),
    *((f"samples_{model}_{bank}_1234", HARD.format(model), *OTHER_BANK)
      for model in ("theta0", "gen_v0", "v1", "v2", "v2_4_atoms") for bank in ("easy", "withheld")),
    ("samples_gen_v0_tuning_hard_1234", HARD.format("gen_v0"), *OTHER_BANK),
    # models, controls among them, on one bank
    *((HARD.format(one), HARD.format(other), *OTHER_MODEL) for one, other in itertools.combinations(
        ("theta0", "gen_v0", "v1", "v2", "v2_4_atoms", "permuted", "fits_only", "continued"), 2)),
    *((WITHHELD.format(one), WITHHELD.format(other), *OTHER_MODEL) for one, other in itertools.combinations(
        ("theta0", "gen_v0", "v1", "v2", "v2_4_atoms", "own_withheld", "secret_solved", "secret"), 2)),
    ("controls_v1_hard", HARD.format("v1"), "adapter tasks prompts key", "n"),  # these draws, continued
    # gen_v0 anew: for the null, with other numbers of visible examples, and for the temperatures
    ("null_pool_hard", HARD.format("gen_v0"), *AGAIN),
    ("visible_1_samples_gen_v0_hard_1234", HARD.format("gen_v0"), *OTHER_SPLIT),
    ("visible_3_samples_gen_v0_hard_1234", HARD.format("gen_v0"), *OTHER_SPLIT),
    ("visible_1_samples_gen_v0_hard_1234", "visible_3_samples_gen_v0_hard_1234", *OTHER_SPLIT),
    ("temperature_0_7_gen_v0_hard", HARD.format("gen_v0"), *AGAIN),
    ("temperature_0_7_gen_v0_hard", "null_pool_hard", *AGAIN),
    ("temperature_1_gen_v0_tuning_hard", "samples_gen_v0_tuning_hard_1234", *AGAIN),
    ("temperature_0_7_v2_hard", "temperature_0_7_gen_v0_hard", *OTHER_MODEL),
    ("temperature_1_v2_tuning_hard", "temperature_1_gen_v0_tuning_hard", *OTHER_MODEL),
    *((one, other, *OTHER_TEMPERATURE) for group in (
        ("temperature_0_7_gen_v0_hard", "temperature_1_4_gen_v0_hard", "temperature_matched_gen_v0_hard"),
        ("temperature_0_7_v2_hard", "temperature_1_4_v2_hard"),
        tuple(f"temperature_{t}_gen_v0_tuning_hard" for t in ("0_35", "0_5", "0_7", "1", "1_4")),
        tuple(f"temperature_{t}_v2_tuning_hard" for t in ("0_7", "1", "1_4")),
    ) for one, other in itertools.combinations(group, 2)),
)  # fmt: skip

TRAININGS: tuple[Row, ...] = (
    ("v1", "gen_v0", "", "start prompts answers key"),
    ("v2", "v1", "start updates", "prompts answers key"),
    ("v1_4_atoms", "v1", "start updates", "prompts answers key"),
    ("v2_4_atoms", "v2", "start updates", "prompts answers key"),
    ("v2_4_atoms", "v1_4_atoms", "start updates", "prompts answers key"),
    # the controls, each beside what it is like but for one thing
    ("permuted", "v1", "start updates prompts", "answers key"),
    ("fits_only", "v1", "start updates", "answers key"),
    ("continued", "v1", "start updates", "prompts answers key"),
    ("continued", "gen_v0", "examples", "start prompts answers key"),
    ("own_withheld", "v1", "start updates", "prompts answers key"),
    ("secret_solved", "own_withheld", "start prompts", "answers key"),
    ("secret", "secret_solved", "start", "prompts answers key"),
    # the critics
    ("prior_critic", "critic", "updates answers", "start prompts key"),
    ("permuted_critic", "critic", "updates prompts", "start answers key"),
    ("refreshed_critic_v2", "critic", "updates", "start prompts answers key"),
    ("other_base_critic", "critic", "updates prompts answers", "start key"),
)

RESULTS: tuple[tuple[str, str, str], ...] = (  # file, its column, and stages of which no two hold the same
    ("tasks_{}.jsonl", "", "tasks_gen_v0 tasks_v1 tasks_v2 tasks_v1_4_atoms tasks_v2_4_atoms tasks_critic "
     "tasks_continued tasks_withheld"),
    ("scores_{}.npy", "", "scores_gen_v0_hard_1234 prior_scores_gen_v0_hard_1234 "
     "scores_permuted_critic_hard_1234 scores_other_base_critic_gen_v0_hard_1234"),
    ("scores_{}.npy", "", "scores_v2_hard_1234 prior_scores_v2_hard_1234 "
     "scores_refreshed_critic_v2_v2_hard_1234"),
    ("scores_{}.npy", "", "scores_gen_v0_hard_1234 visible_1_scores_gen_v0_hard_1234 "
     "visible_3_scores_gen_v0_hard_1234"),
    ("scores_{}.npy", "", "scores_gen_v0_hard_1234 scores_gen_v0_hard_7 scores_gen_v0_hard_9 "
     "scores_gen_v0_easy_1234 scores_v1_hard_1234 scores_v2_hard_1234"),
    ("posterior_{}.npy", "", "posterior_3_atoms_gen_v0_hard_1234 posterior_4_atoms_gen_v0_hard_1234 "
     "posterior_4_atoms_gen_v0_hard_7 posterior_4_atoms_gen_v0_hard_9"),
    ("columns_{}.npz", "log_likelihood", "columns_gen_v0_hard_1234 columns_gen_v0_hard_7 "
     "columns_gen_v0_hard_9 columns_v1_hard_1234 columns_v2_hard_1234 columns_gen_v0_tuning_hard_1234"),
    ("log_probs_{}.npy", "", "log_probs_theta0_hard log_probs_gen_v0_hard log_probs_v1_hard "
     "log_probs_v2_hard log_probs_v2_4_atoms_hard"),
    ("log_probs_{}.npy", "", "controls_log_probs_theta0_hard controls_log_probs_gen_v0_hard "
     "controls_log_probs_v1_hard controls_log_probs_v2_hard controls_log_probs_permuted_hard "
     "controls_log_probs_fits_only_hard controls_log_probs_continued_hard"),
    ("log_probs_{}.npy", "", "controls_log_probs_theta0_withheld controls_log_probs_gen_v0_withheld "
     "controls_log_probs_v1_withheld controls_log_probs_v2_withheld "
     "controls_log_probs_own_withheld_withheld controls_log_probs_secret_solved_withheld "
     "controls_log_probs_secret_withheld"),
)  # fmt: skip


def named(calls: Iterable[Mapping[str, Any]], kind: str) -> dict[str, Mapping[str, Any]]:
    """The calls of a kind by the names of their stages."""
    return {call["name"]: call for call in calls if call["call"] == kind}


def differences_from(rows: Iterable[Row], calls: Calls) -> Iterator[str]:
    """Where the calls are not as the rows say."""
    for one, other, shared, different in rows:
        for part in shared.split():
            if not _same(calls[one], calls[other], part):
                yield f"{one} and {other} do not share their {part}"
        for part in different.split():
            if _same(calls[one], calls[other], part):
                yield f"{one} and {other} have the same {part}"


def _same(one: Mapping[str, Any], other: Mapping[str, Any], part: str) -> bool:
    if part in one:
        return one[part] == other[part]
    pairs = zip(one["trajectories"], other["trajectories"], strict=False)
    return all(own[part] == others[part] for own, others in pairs)


def repeated_keys(calls: Calls, parts: tuple[str, ...]) -> set[frozenset[str]]:
    """The sets of stages, or of a stage with itself, of which trajectories agree in these parts."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, call in calls.items():
        for own in call["trajectories"]:
            found[repr([own[part] for part in parts])].append(name)
    return {frozenset(names) for names in found.values() if len(names) > 1}


def groups(rows: Iterable[Row], *shared: str) -> set[frozenset[str]]:
    """The largest sets of names that rows connect which share all these parts."""
    found: list[set[str]] = []
    for one, other, parts, _ in rows:
        if set(shared) <= set(parts.split()):
            joined = [group for group in found if group & {one, other}]
            found = [group for group in found if group not in joined] + [{one, other}.union(*joined)]
    return {frozenset(group) for group in found}


def equal_files(stages: Path, pattern: str) -> set[frozenset[str]]:
    """The sets of stages, or of a stage with itself, that hold files of the same content.

    The header of a sample set, which says where it comes from, is no content.
    """
    found: dict[bytes, list[str]] = defaultdict(list)
    for file in sorted(stages.glob(pattern)):
        found[content(file)].append(file.parent.name)
    return {frozenset(names) for names in found.values() if len(names) > 1}


def content(file: Path, column: str = "") -> bytes:
    """What a file holds, or one of its columns."""
    if file.suffix != ".npz":
        return file.read_bytes()
    with np.load(file) as columns:
        names = [column] if column else sorted(name for name in columns if name != "header")
        return b"".join(columns[name].tobytes() for name in names)


def equal_results(stages: Path) -> Iterator[str]:
    """Pairs of stages that hold the same although `RESULTS` says that they do not."""
    for file, column, names in RESULTS:
        for one, other in itertools.combinations(names.split(), 2):
            pairs = list(_contents(stages, one, other, file, column))
            if not pairs or all(own == others for own, others in pairs):
                yield f"{one} and {other} hold the same {column or file}"


def _contents(stages: Path, one: str, other: str, file: str, column: str) -> Iterator[tuple[bytes, bytes]]:
    for r in itertools.count():
        own, others = (stages / name / file.format(r) for name in (one, other))
        if not (own.exists() and others.exists()):
            return
        yield content(own, column), content(others, column)
