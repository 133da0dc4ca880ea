"""A study's report: everything that is read of its stored stages, and the page at the end. Needs no JAX."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from constellation.conductor import FinishedStages, Stage, canonical_json, finished_stage, read_record
from constellation.domains.domain import load_domain
from constellation.domains.task import Task, read_tasks
from constellation.evaluation.report import write_report
from constellation.evaluation.study import AnalysisConfig, SetKey, StageSummary, StudyResults, TaskInfo
from constellation.experiments.config import BASE, CRITIC, START
from constellation.experiments.critic import critic_samples
from constellation.experiments.files import TASKS, samples_of, summaries_of
from constellation.experiments.question import stages_in
from constellation.experiments.questions import QUESTIONS, SKELETONS, Graph, graph, sources
from constellation.experiments.star import arm, models, warm_start
from constellation.experiments.study import Study
from constellation.runtime.errors import UserError
from constellation.runtime.progress import read_metrics
from constellation.runtime.provenance import commit


def report(study: Study) -> Path:
    """Runs every stage and at the end the report; returns the path of report.html in the workdir."""
    found = graph(study)

    def write(path: Path) -> None:
        write_report(results(study, found, study.conductor.provenance()), path)

    stage = study.conductor.stage(
        "report",
        fields={
            "config": study.config,
            "model": study.base.fields(),
            "other_base": study.critic_base.hash if study.critic_base else "",
        },
        inputs=sources(study, found),
        version=1,
        run=write,
        derived=True,
    )
    return copy_results(stage, study.conductor.workdir)


def copy_results(stage: Stage, workdir: Path) -> Path:
    """Copies what a report stage wrote into the workdir; returns the path of report.html there."""
    for file in stage.path.iterdir():
        if file.suffix in (".html", ".png") or file.name == "findings.json":
            copy = workdir / file.name  # a newer one is what `redraw` made
            if not copy.exists() or copy.stat().st_mtime_ns < file.stat().st_mtime_ns:
                shutil.copyfile(file, copy)
    return workdir / "report.html"


def redraw(workdir: str) -> Path:
    """Analyses a finished study again, from its stored stages alone; returns the path of its new report.html.

    Raises:
        UserError: the workdir holds no finished study, a damaged one, or one of another version.
    """
    if not (Path(workdir) / "stages" / "report" / "stage.json").is_file():
        raise UserError(
            f"{workdir} holds neither a finished study nor a sweep: run python -m launch.experiment "
            f"--workdir={workdir} first, with the study's --config, or launch.sweep with a sweep's"
        )
    record = read_record(finished_stage(workdir, "report").path)
    with tempfile.TemporaryDirectory() as drawn:  # the old report stays until the new one is whole
        try:
            _redraw(workdir, record, Path(drawn))
        except (AttributeError, KeyError) as error:
            made_by = record["provenance"].get("commit", "unknown")
            if made_by == commit():
                raise
            raise UserError(
                f"{workdir} was made by another version (commit {made_by}), whose config or results lack "
                f"{error}: check that version out to draw it again"
            ) from error
        shutil.copytree(drawn, workdir, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return Path(workdir) / "report.html"


def _redraw(workdir: str, record: Mapping[str, Any], drawn: Path) -> None:
    """Writes the report of a finished study, whose report stage has this record, into a directory."""
    fields = record["recipe"]["fields"]
    config = ConfigDict(fields["config"])
    stages, domain = FinishedStages(workdir), load_domain(config.domain)
    if "peers" in config:
        from constellation.experiments.peers.report import write

        write(Study(config, stages, domain, fields["models"]), record["provenance"], drawn)
    else:
        study = Study(config, stages, domain, (fields["model"]["hash"], fields["other_base"]))
        write_report(results(study, graph(study), record["provenance"]), drawn)


def results(study: Study, found: Graph, made_by: Mapping[str, str]) -> StudyResults:
    """What the evaluation reads, from stored stages alone.

    Args:
        found: of `graph`.
        made_by: the provenance that the report states.
    """
    config, evaluation = study.config, study.config.evaluation
    arms = tuple(arm(study))
    samples = found.samples | found.questions["selection"].samples
    parts = {name: QUESTIONS[name].part(study, stages) for name, stages in found.questions.items() if stages}
    other = study.critic_base.hash if study.critic_base else ""
    return StudyResults(
        base=BASE,
        start=START,
        rounds=tuple(name for name in models(study) if name not in (BASE, START, *arms)),
        tasks=_task_infos(study, found),
        samples={
            SetKey(bank, name, seed, r): drawn
            for (bank, name, seed), stage in samples.items()
            for r, drawn in enumerate(samples_of(stage))
        },
        trajectories=study.trajectories,
        primary_split=config.tasks.split_seed,
        arms=arms,
        parts=parts,
        stages=_summaries(study, found),
        roles=_role_counts(study),
        config=json.loads(canonical_json(config)),
        provenance=_stated(made_by, study.base.hash, other),
        sources=_sources(study, found, parts),
        analysis=AnalysisConfig(
            **{name: evaluation[name] for name in ("seed", "small_k", "large_k", "resamples", "margin")},
            max_k=evaluation.large_k,
            reach_budgets=tuple(config.reach.budgets),
            reach_at=config.reach.at,
        ),
    )


def _sources(study: Study, found: Graph, parts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Question -> the stages that it reads, name to content; "study" is all that no question adds."""
    added = {name: stages_in(found.questions[name]) for name in parts}
    own = [stage for stage in sources(study, found) if not any(stage in stages for stages in added.values())]
    read = {"study": own} | added
    return {name: {stage.name: stage.content for stage in stages} for name, stages in read.items()}


def stated_provenance(workdir: Path) -> dict[str, str]:
    """What the report of a finished study states as its provenance: commit, versions, device and bases.

    Raises:
        UserError: the workdir holds no finished study, or a damaged one.
    """
    record = read_record(finished_stage(workdir, "report").path)
    fields = record["recipe"]["fields"]
    return _stated(record["provenance"], fields["model"]["hash"], fields.get("other_base", ""))


def _stated(made_by: Mapping[str, str], model: str, other: str) -> dict[str, str]:
    """What made the study, with the hash of its base, and of the other one if a critic has it."""
    bases = {"model": model} | ({"other base": other} if other else {})
    return dict(sorted({**made_by, **bases}.items()))


def _summaries(study: Study, found: Graph) -> list[StageSummary]:
    """The training stages in figures, in order."""
    config = study.config
    summaries = _summary(START, "warm_start", config.warm_start.tasks, warm_start(study))
    for each in found.rounds:
        summaries += _summary(each.name, "star", config.star.tasks, each.adapters, each.samples)
    for name, stage in found.critics.items():  # the second learns from what was sampled for the first
        candidates = critic_samples(study) if name == CRITIC else None
        summaries += _summary(name, "critic", config.critic.tasks, stage, candidates)
    for name, stages in found.questions.items():
        if stages:
            summaries += QUESTIONS[name].summaries(study, stages)
    return summaries


def _summary(name: str, role: str, tasks: int, stage: Stage, pool: Stage | None = None) -> list[StageSummary]:
    """A training stage in figures, its losses among them, of each trajectory."""
    rows = read_metrics(stage.path / "metrics")
    drawn = samples_of(pool) if pool else []
    return [
        dataclasses.replace(
            summary,
            losses=[row.get(f"loss_{trajectory}", row["loss"]) for row in rows],
            pool=drawn[trajectory] if role == "star" else None,
        )
        for trajectory, summary in enumerate(summaries_of(stage, name, role, tasks, drawn))
    ]


def _task_infos(study: Study, found: Graph) -> dict[str, list[TaskInfo]]:
    """Bank -> its tasks; a skeleton is seen if any training task has it, of pretraining or of the study."""
    drawn = [task.skeleton for stage in found.tasks for own in study.tasks_of(stage) for task in own]
    listed = (found.skeletons.path / SKELETONS).read_text(encoding="utf-8").splitlines()
    seen = frozenset([*listed, *drawn])

    def info(task: Task) -> TaskInfo:
        visible, held_out = study.split(task)
        known = task.skeleton in seen
        return TaskInfo(task.id, task.atoms, task.structures, known, task.program, visible, held_out)

    banks = {bank: read_tasks(study.bank(bank).path / TASKS) for bank in study.config.tasks.banks}
    return {bank: [info(task) for task in tasks] for bank, tasks in banks.items()}


def _role_counts(study: Study) -> dict[str, int]:
    """Role -> tasks drawn, counted from the tasks themselves."""
    counts: Counter[str] = Counter()
    for stage in study.drawn.values():
        for own in study.tasks_of(stage, stage.work.trajectories):
            counts.update(task.role for task in own)
    return dict(sorted(counts.items()))
