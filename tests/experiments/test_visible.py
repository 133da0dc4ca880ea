"""What other numbers of visible examples change: prompts, what fits, and not what is right."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest

from constellation.conductor import Conductor, Stage
from constellation.domains.task import Task, read_tasks, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.evaluation.selectors import Columns
from constellation.experiments.check import check
from constellation.experiments.critics import Stages, part, prompted_with
from constellation.experiments.files import TASKS, samples_of
from constellation.experiments.question import stages_in
from constellation.experiments.star import bank_samples, warm_start
from constellation.experiments.study import Study
from constellation.model.model import Model, check_model, load_model
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.tiny_study import Untrained, tiny_config, write_tiny_model


class Ran(NamedTuple):
    """Of two trajectories the first has variants; trainings change nothing."""

    sets: Mapping[int, Sequence[tuple[SampleSet, Columns]]]
    stages: list[Stage]
    prompts: list[list[list[int]]]  # that the generator was given, in each call
    critic_saw: list[int]  # visible examples, in each call
    tasks: list[Task]
    own: SampleSet  # of the study, at its own number of visible examples
    model: Model


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    model_dir, workdir = write_tiny_model(tmp_path_factory.mktemp("model")), tmp_path_factory.mktemp("study")
    prompts: list[list[list[int]]] = []
    critic_saw: list[int] = []

    class Noted(Untrained):
        def sample(self, generator, asked, *rest, **named):
            prompts.append(asked[0])
            return super().sample(generator, asked, *rest, **named)

        def critic_scores(self, critics, domain, tasks, samples, split):
            critic_saw.append(len(split(tasks[0]).visible))
            assert critics.trajectories == len(samples)
            return super().critic_scores(critics, domain, tasks, samples, split)

    config = tiny_config(
        model_dir, trajectories=2, questions="critics", critics__visible="4,1,2", critics__samples=12
    )
    check(config)
    with Conductor(workdir) as conductor:
        study = Study(config, conductor, trapdoor, [check_model(model_dir, "int4:32")], Noted(workdir))
        found = Stages({}, {number: prompted_with(study, number) for number in (1, 4)})
        sets = part(study, found).visible
        tasks = read_tasks(study.bank("hard").path / TASKS)
        (own, _) = samples_of(bank_samples(study, "hard", "gen_v0", warm_start(study)).samples)
    return Ran(sets, stages_in(found), prompts, critic_saw, tasks, own, load_model(model_dir))


def test_all_numbers_but_the_studys_own_in_the_first_trajectory(ran: Ran) -> None:
    assert [(number, len(sets)) for number, sets in ran.sets.items()] == [(1, 1), (4, 1)]
    assert [stage.name for stage in ran.stages] == [
        f"visible_{number}_{kind}_gen_v0_hard_1234" for number in (1, 4) for kind in ("samples", "scores")
    ]
    for number, ((samples, columns),) in ran.sets.items():
        assert samples.n == 12 and samples.meta["tasks"] == {"visible": number, "split_seed": 1234}
        np.testing.assert_array_equal(np.isfinite(columns["critic"]), samples.fits)


def test_generator_and_critic_are_shown_as_many(ran: Ran) -> None:
    for number in (1, 4):
        expected = [ran.model.chat(trapdoor.messages(split(task, 1234, number))) for task in ran.tasks]
        assert expected in ran.prompts
    assert ran.critic_saw == [1, 4]


def test_more_visible_examples_fit_less_and_the_same_programs_are_right(ran: Ran) -> None:
    (few, _), (many, _) = (sets[0] for sets in ran.sets.values())
    verdicts = [
        {(t, str(text)): (fits, right) for t, text, fits, right in columns}
        for own in (few, many)
        for columns in [zip(own.task.tolist(), own.text, own.fits, own.right, strict=True)]
    ]
    shared = verdicts[0].keys() & verdicts[1].keys()
    assert any(verdicts[0][program][1] for program in shared)
    for program in shared:
        (fits_one, right_one), (fits_four, right_four) = (own[program] for own in verdicts)
        assert right_one == right_four and fits_one >= fits_four
    for task in ran.tasks:
        shown = [split(task, 1234, number).visible for number in (1, 2, 4)]
        assert shown[0] == shown[2][:1] and shown[1] == shown[2][:2]


def test_draws_are_those_of_no_other_number(ran: Ran) -> None:
    (one,), (four,) = ran.sets.values()
    texts = [own.per_sample(own.text)[:, : ran.own.n] for own in (one[0], four[0], ran.own)]
    for first, second in itertools.combinations(texts, 2):
        assert first.shape == second.shape and (first != second).any()


@pytest.mark.parametrize(
    "fields",
    [
        {"critics__trajectories": 2},
        {"critics__trajectories": -1},
        {"critics__visible": "0,2"},
        {"critics__visible": "2,12"},
        {"critics__visible": "1,1"},
        {"critics__samples": 1},
        {"questions": "critics,other_base"},
        {"questions": "critics", "critics__visible": "1,1"},
    ],
)
def test_what_cannot_work_is_refused(tmp_path, fields: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"config\.critics\.\w+ = .* must be"):
        check(tiny_config(tmp_path, **({"questions": "critics"} | fields)))
