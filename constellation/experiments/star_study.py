"""The STaR study: every stage of `star_stages`, and at their end the report.

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

import numpy as np
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
from constellation.domains.task import read_tasks
from constellation.evaluation.report import write_report
from constellation.evaluation.study import AnalysisConfig, SetKey, StageSummary, StudyResults, TaskInfo
from constellation.experiments import (
    bayes_stages,
    critic_stages,
    critic_variant_stages,
    reach_stages,
    selection_stages,
    temperature_stages,
)
from constellation.experiments.control_stages import ControlStages
from constellation.experiments.stage_files import TASKS, samples_of, summaries_of
from constellation.experiments.star_config import (
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
from constellation.experiments.star_stages import StarStages
from constellation.experiments.visible_stages import visible_sets
from constellation.runtime.errors import UserError
from constellation.runtime.progress import read_metrics
from constellation.samples import SampleSet

SKELETONS = "training_skeletons.txt"


def run(config: ConfigDict, workdir: str, siblings: Sequence[Path] = ()) -> Path:
    """Runs, or continues, the whole study; returns the path of the report.

    Args:
        config: of the study.
        workdir: of the study.
        siblings: as for `Conductor`.

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
    for base in bases if config.memory.budget_gib else ():
        check_plan(with_base(config, base), jax.default_backend())
    hashes = [check_model(base, config.model.quantization, config.model.dtype, mesh) for base in bases]
    for base in bases:
        answer_ids(load_base(with_base(config, base), weights=False))
    own = own_workdir(Path(workdir))
    align(own)
    with Conductor(own, siblings) as conductor:
        return report(StarStages(config, conductor, *hashes))


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


def report(study: StarStages) -> Path:
    """Everything, and at its end the report; returns the path of report.html in the workdir."""
    found, inputs = results(study, provenance())

    def write(path: Path) -> None:
        write_report(found, path)

    stage = study.conductor.stage(
        "report",
        fields={"config": study.config, "model": study.model_fields(), "other_base": study.other_hash},
        inputs=inputs,
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
    study = StarStages(config, FinishedStages(workdir), *hashes)
    with tempfile.TemporaryDirectory() as drawn:  # the old report stays until the new one is whole
        try:
            found, _ = results(study, record["provenance"])
            write_report(found, Path(drawn))
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


def results(study: StarStages, made_by: Mapping[str, str]) -> tuple[StudyResults, list[Stage]]:
    """What the evaluation reads, from stored stages alone, and the stages themselves.

    Args:
        study: the stages.
        made_by: the provenance that the report states.
    """
    config = study.config
    evaluation, primary = config.evaluation, config.tasks.split_seed
    inputs: list[Stage] = []
    samples: dict[SetKey, SampleSet] = {}
    columns: dict[SetKey, dict[str, np.ndarray]] = {}
    start_samples: dict[str, Stage] = {}

    def keep(bank: str, name: str, split_seed: int, stage: Stage, generator: Stage | None) -> None:
        own = {SetKey(bank, name, split_seed, r): drawn for r, drawn in enumerate(samples_of(stage))}
        samples.update(own)
        inputs.append(stage)
        if generator is not None:
            found, stages = selection_stages.columns(study, bank, name, split_seed, stage, generator)
            columns.update(zip(own, found, strict=True))
            inputs.extend(stages)

    models, arms = study.models(), study.arm()
    for name, generator in models.items():
        for bank in config.tasks.banks:
            for seed in evaluation.split_seeds if bank == "hard" else (primary,):
                stage = study.bank_samples(bank, name, generator, seed, sample_count(config, bank, name))
                scored = bank != "withheld" and name not in (BASE, *arms)
                if seed != primary:  # there the selectors are compared on the start's candidates alone
                    scored = name == START and seed in evaluation.selection_split_seeds
                keep(bank, name, seed, stage, generator if scored else None)
                if (name, seed) == (START, primary):
                    start_samples[bank] = stage
    for seed in evaluation.selection_split_seeds:
        if seed not in evaluation.split_seeds:
            count = "evaluation.selection_samples"
            stage = study.bank_samples("hard", START, models[START], seed, count)
            keep("hard", START, seed, stage, models[START])
    exact, exact_stages = bayes_stages.exact(study, start_samples)
    tuning, tuning_stages = selection_stages.tuning(study)
    inputs += [*exact_stages, *tuning_stages]
    controls = ControlStages(study)
    of_controls, stages = controls.results()
    inputs += stages
    trainings = [study.round(*trained) for trained in study.trained_rounds()]
    inputs += [pretraining_skeletons(study), study.warm_start(), *trainings, critic_stages.critic(study)]
    pools = [study.round_samples(*trained) for trained in study.trained_rounds()]
    inputs += [*pools, critic_stages.critic_samples(study)]
    inputs += [study.bank(bank) for bank in config.tasks.banks]
    inputs += _task_stages(study)
    known, stages = reach_stages.known_programs(study, "hard", study.trajectories)
    inputs += stages
    at_temperatures, temperature_inputs = temperature_stages.temperatures(study)
    visible, stages = visible_sets(study)
    inputs += stages
    variant_scores, stages = critic_variant_stages.variant_scores(study)
    inputs += stages
    return StudyResults(
        base=BASE,
        start=START,
        rounds=tuple(name for name in models if name not in (BASE, START, *arms)),
        tasks=_task_infos(study),
        samples=samples,
        critic_scores={key: own["critic"] for key, own in columns.items()},
        selector_columns={
            key: {name: column for name, column in own.items() if name != "critic"}
            for key, own in columns.items()
        },
        tuning=tuning,
        exact=exact,
        selection_model=START,
        trajectories=study.trajectories,
        primary_split=primary,
        arms=tuple(arms),
        **of_controls,
        known=known,
        parts={"temperature": at_temperatures} if at_temperatures else {},
        visible=visible,
        variant_scores=variant_scores,
        stages=[*_summaries(study), *controls.summaries(), *critic_variant_stages.summaries(study)],
        roles=_role_counts(study, controls),
        config=json.loads(canonical_json(config)),
        provenance=_stated(made_by, study.model_hash, study.other_hash),
        sources={
            name: {stage.name: stage.digest for stage in stages}
            for name, stages in (("study", inputs), ("temperature", temperature_inputs))
        },
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
    ), [*inputs, *temperature_inputs]


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


def _summaries(study: StarStages) -> list[StageSummary]:
    """The training stages in figures, in order."""
    config = study.config
    summaries = _summary(START, "warm_start", config.warm_start.tasks, study.warm_start())
    for number, max_atoms in study.trained_rounds():
        name, stage = study.round_name(number, max_atoms), study.round(number, max_atoms)
        pool = study.round_samples(number, max_atoms)
        summaries += _summary(name, "star", config.star.tasks, stage, pool)
    critics = {CRITIC: False} | ({PRIOR_CRITIC: True} if config.critic.selectors else {})
    for name, blind in critics.items():  # the second learns from what was sampled for the first
        stage = critic_stages.critic(study, blind)
        candidates = None if blind else critic_stages.critic_samples(study)
        summaries += _summary(name, "critic", config.critic.tasks, stage, candidates)
    return summaries


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


def _task_infos(study: StarStages) -> dict[str, list[TaskInfo]]:
    """Bank -> its tasks; a skeleton is seen if any training task has it, of pretraining or of the study."""
    drawn = [task.skeleton for stage in _task_stages(study) for own in study.tasks_of(stage) for task in own]
    listed = (pretraining_skeletons(study).path / SKELETONS).read_text(encoding="utf-8").splitlines()
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


def pretraining_skeletons(study: StarStages) -> Stage:
    """Skeletons of the pretraining tasks, one a line, as far as the model's directory lists them."""
    listed = Path(study.config.model.dir) / SKELETONS
    text = listed.read_text(encoding="utf-8") if listed.exists() else ""

    def write(path: Path) -> None:
        (path / SKELETONS).write_text(text, encoding="utf-8")

    return study.conductor.stage(
        "pretraining_skeletons", fields={SKELETONS: digest(text)}, version=1, run=write, derived=True
    )


def _task_stages(study: StarStages) -> list[Stage]:
    """Every stage of training tasks."""
    rounds = [study.round_tasks(number, max_atoms) for number, max_atoms in study.trained_rounds()]
    return [study.warm_start_tasks(), *rounds, critic_stages.critic_tasks(study)]


def _role_counts(study: StarStages, controls: ControlStages) -> dict[str, int]:
    """Role -> tasks drawn, counted from the tasks themselves."""
    drawn = [own for stage in _task_stages(study) for own in study.tasks_of(stage)]
    drawn += controls.own_tasks()
    tuned = study.config.critic.selectors or study.config.temperatures.trajectories
    tuning = [selection_stages.TUNING] if tuned else []
    drawn += [read_tasks(study.bank(bank).path / TASKS) for bank in (*study.config.tasks.banks, *tuning)]
    counts = Counter(task.role for own in drawn for task in own)
    return dict(sorted(counts.items()))
