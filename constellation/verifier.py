"""The verifier: verdicts on drawn answers, of any domain that can judge. The only truth of a study."""

from __future__ import annotations

from collections.abc import Sequence

from constellation.domains.domain import Domain, Verdict
from constellation.domains.task import Splitter, Task
from constellation.runtime.progress import Progress
from constellation.samples import SampleSet


def judge_samples(
    domain: Domain, tasks: Sequence[Task], split: Splitter, samples: SampleSet, label: str
) -> SampleSet:
    """The same samples, of these tasks under this split, with the domain's verdicts.

    Raises UserError: the domain has no judge.
    """
    splits = [split(task) for task in tasks]
    with Progress(f"{label}, verifier", len(tasks), "tasks") as progress:

        def verdict(task: int, text: str) -> Verdict:
            progress.update(task + 1 - progress.done)
            return domain.verdict(tasks[task], splits[task], text)

        judged = samples.judge(verdict)
        progress.update(len(tasks) - progress.done)
    return judged
