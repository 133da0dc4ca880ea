"""A study from its graph to its report: everything that is read of stored stages, and the page at the end.

`run` alone needs a model and JAX; `results` and `redraw` read finished stages.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from constellation.conductor import (
    Conductor,
    FinishedStages,
    Stage,
    canonical_json,
    commit,
    digest,
    finished_stage,
    provenance,
    read_record,
)
from constellation.domains.domain import load_domain
from constellation.domains.task import read_tasks
from constellation.evaluation.report import write_report
from constellation.evaluation.study import AnalysisConfig, SetKey, StageSummary, StudyResults, TaskInfo
from constellation.experiments import controls, critics, filtering, reach, selection, temperature
from constellation.experiments.compute import Compute
from constellation.experiments.config import (
    BASE,
    CRITIC,
    PRIOR_CRITIC,
    START,
    check,
    load_base,
    sample_count,
    value_of,
    with_base,
)
from constellation.experiments.critic import critic, critic_samples, critic_tasks
from constellation.experiments.files import TASKS, samples_of, summaries_of
from constellation.experiments.star import (
    Round,
    arm,
    arm_rounds,
    evaluated,
    models,
    rounds,
    warm_start,
    warm_start_tasks,
)
from constellation.experiments.study import Study
from constellation.runtime.errors import UserError
from constellation.runtime.progress import read_metrics

SKELETONS = "training_skeletons.txt"


class Graph(NamedTuple):
    """Every stage of a study but its report.

    Attributes:
        samples: (bank, model, split seed) to a model's samples.
        rounds: those of the arm after the others.
        critics: name to the study's own critics.
        tasks: every stage of training tasks.
        skeletons: those of the pretraining tasks.
        questions: name to the stages that a question reads; None for one that is off.
    """

    samples: dict[tuple[str, str, int], Stage]
    rounds: list[Round]
    critics: dict[str, Stage]
    tasks: list[Stage]
    skeletons: Stage
    questions: dict[str, Any]


QUESTIONS = {
    "selection": selection,
    "filtering": filtering,
    "controls": controls,
    "reach": reach,
    "temperature": temperature,
    "critics": critics,
}


def run(
    config: ConfigDict, workdir: str, siblings: Sequence[Path] = (), compute: Compute | None = None
) -> Path:
    """Runs, or continues, the whole study; returns the path of the report.

    Args:
        config: of the study.
        workdir: of the study.
        siblings: as for `Conductor`.
        compute: what stages compute with.

    Raises:
        UserError: a config value that is not allowed, a model that cannot be loaded (both found before the
            workdir is touched), or a workdir of another study.
    """
    import jax

    from constellation.critic import answer_ids
    from constellation.experiments.plan import check_plan
    from constellation.model.mesh import make_mesh
    from constellation.model.model import check_model
    from constellation.runtime.distributed import align, own_workdir

    check(config)
    _check_extends(config, workdir)
    mesh = make_mesh(config.mesh.data, config.mesh.model)
    bases = [config.model.dir, *filter(None, [config.critic.model_dir])]
    domain = load_domain(config.domain)
    for base in bases if config.memory.budget_gib else ():
        check_plan(with_base(config, base), jax.default_backend())
    hashes = [check_model(base, config.model.quantization, config.model.dtype, mesh) for base in bases]
    for base in bases:
        answer_ids(load_base(config, domain, base, weights=False))
    own = own_workdir(Path(workdir))
    align(own)
    with Conductor(own, siblings) as conductor:
        return report(Study(config, conductor, domain, hashes, compute))


def _check_extends(config: ConfigDict, workdir: str) -> None:
    """Refuses more rounds where the last one's samples are not as many as a middle one's are to be.

    The stages that read them would refuse it, too, but only when the further rounds have been trained.
    """
    for number in range(1, config.star.rounds):
        path = Path(workdir) / "stages" / f"samples_v{number}_hard_{config.tasks.split_seed}"
        if not (path / "stage.json").is_file():
            continue
        held = read_record(path)["recipe"]["fields"]["evaluation.samples"]
        field = sample_count(config, "hard", f"v{number}")
        if held != value_of(config, field):
            raise UserError(
                f"{workdir} holds {held} samples a task of v{number}, and config.{field} asks for "
                f"{value_of(config, field)}: set it to {held}, or give another --workdir"
            )


def graph(study: Study) -> Graph:
    """Asks the conductor for every stage of the study, in the order in which they run."""
    samples = {(bank, name, seed): stage for bank, name, seed, stage in evaluated(study)}
    trained = [*rounds(study), *arm_rounds(study)]
    questions = {name: question.stages(study) for name, question in QUESTIONS.items()}
    own = {CRITIC: critic(study)}
    if study.config.critic.selectors:
        own[PRIOR_CRITIC] = critic(study, blind=True)
    tasks = [warm_start_tasks(study), *(each.tasks for each in trained), critic_tasks(study)]
    return Graph(samples, trained, own, tasks, pretraining_skeletons(study), questions)


def sources(study: Study, found: Graph) -> list[Stage]:
    """Every stage that a report reads."""
    asked = [stage for part in found.questions.values() if part for stage in part.all()]
    pools = [stage for each in found.rounds for stage in (each.adapters, each.samples)]
    banks = [study.bank(bank) for bank in study.config.tasks.banks]
    return [
        *found.samples.values(),
        *asked,
        *pools,
        found.skeletons,
        warm_start(study),
        *found.critics.values(),
        critic_samples(study),
        *banks,
        *found.tasks,
    ]


def report(study: Study) -> Path:
    """Everything, and at its end the report; returns the path of report.html in the workdir."""
    found = graph(study)

    def write(path: Path) -> None:
        write_report(results(study, found, provenance()), path)

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
    workdir = study.conductor.workdir
    for file in stage.path.iterdir():
        if file.suffix in (".html", ".png") or file.name == "findings.json":
            copy = workdir / file.name  # a newer one is what `redraw` made
            if not copy.exists() or copy.stat().st_mtime_ns < file.stat().st_mtime_ns:
                shutil.copyfile(file, copy)
    return workdir / "report.html"


def redraw(workdir: str) -> Path:
    """Analyses a finished study again, from its stored stages alone, and writes its report anew.

    Returns:
        the path of report.html in the workdir.

    Raises:
        UserError: the workdir holds no finished study, a damaged one, or one of another version.
    """
    if not (Path(workdir) / "stages" / "report" / "stage.json").is_file():
        raise UserError(
            f"{workdir} holds neither a finished study nor a sweep: run python -m launch.experiment "
            f"--workdir={workdir} first, with the study's --config, or launch.sweep with a sweep's"
        )
    record = read_record(finished_stage(workdir, "report").path)
    fields = record["recipe"]["fields"]
    config, hashes = ConfigDict(fields["config"]), (fields["model"]["hash"], fields["other_base"])
    with tempfile.TemporaryDirectory() as drawn:  # the old report stays until the new one is whole
        try:
            study = Study(config, FinishedStages(workdir), load_domain(config.domain), hashes)
            write_report(results(study, graph(study), record["provenance"]), Path(drawn))
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


def results(study: Study, found: Graph, made_by: Mapping[str, str]) -> StudyResults:
    """What the evaluation reads, from stored stages alone.

    Args:
        found: of `graph`.
        made_by: the provenance that the report states.
    """
    config, evaluation = study.config, study.config.evaluation
    arms = tuple(arm(study))
    samples = found.samples | found.questions["selection"].samples
    parts: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name, stages in found.questions.items():
        if stages:
            part = QUESTIONS[name].part(study, stages)
            if isinstance(part, dict):
                fields |= part
            else:
                parts[name] = part
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
        selection_model=START,
        trajectories=study.trajectories,
        primary_split=config.tasks.split_seed,
        arms=arms,
        parts=parts,
        **fields,
        stages=_summaries(study, found),
        roles=_role_counts(study, found),
        config=json.loads(canonical_json(config)),
        provenance=_stated(made_by, study.base.hash, other),
        sources=_sources(study, found, parts),
        analysis=AnalysisConfig(
            seed=evaluation.seed,
            small_k=evaluation.small_k,
            large_k=evaluation.large_k,
            max_k=evaluation.large_k,
            resamples=evaluation.resamples,
            margin=evaluation.margin,
            reach_budgets=tuple(evaluation.reach_budgets),
            reach_at=evaluation.reach_at,
        ),
    )


def _sources(study: Study, found: Graph, parts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Question -> the stages that it reads, name to digest; "study" is all that no question adds."""
    asked = {name: found.questions[name].all() for name in parts}
    own = [stage for stage in sources(study, found) if not any(stage in stages for stages in asked.values())]
    return {
        name: {stage.name: stage.digest for stage in stages}
        for name, stages in ({"study": own} | asked).items()
    }


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
    if found.questions["controls"]:
        summaries += controls.summaries(study, found.questions["controls"])
    return summaries + critics.summaries(study, found.questions["critics"])


def _summary(name: str, role: str, tasks: int, stage: Stage, pool: Stage | None = None) -> list[StageSummary]:
    """Of each trajectory."""
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
    infos: dict[str, list[TaskInfo]] = {}
    for bank in study.config.tasks.banks:
        infos[bank] = []
        for task in read_tasks(study.bank(bank).path / TASKS):
            visible, held_out = study.split(task)
            infos[bank].append(
                TaskInfo(
                    id=task.id,
                    atoms=task.atoms,
                    structures=task.structures,
                    skeleton_seen=task.skeleton in seen,
                    program=task.program,
                    visible=visible,
                    held_out=held_out,
                )
            )
    return infos


def pretraining_skeletons(study: Study) -> Stage:
    """Skeletons of the pretraining tasks, one a line, as far as the model's directory lists them."""
    listed = Path(study.config.model.dir) / SKELETONS
    text = listed.read_text(encoding="utf-8") if listed.exists() else ""

    def write(path: Path) -> None:
        (path / SKELETONS).write_text(text, encoding="utf-8")

    return study.conductor.stage(
        "pretraining_skeletons", fields={SKELETONS: digest(text)}, version=1, run=write, derived=True
    )


def _role_counts(study: Study, found: Graph) -> dict[str, int]:
    """Role -> tasks drawn, counted from the tasks themselves."""
    few = study.config.controls.trajectories
    asked = found.questions["controls"]
    drawn = [own for stage in found.tasks for own in study.tasks_of(stage)]
    drawn += [own for stage in (asked.own_tasks if asked else ()) for own in study.tasks_of(stage, few)]
    tuned = study.config.critic.selectors or study.config.temperatures.trajectories
    tuning = [selection.TUNING] if tuned else []
    drawn += [read_tasks(study.bank(bank).path / TASKS) for bank in (*study.config.tasks.banks, *tuning)]
    counts = Counter(task.role for own in drawn for task in own)
    return dict(sorted(counts.items()))
