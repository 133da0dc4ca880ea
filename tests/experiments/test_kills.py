"""A study that is killed once in every stage ends as one that was not.

A kill comes either in the middle of a stage's work or when it is complete but not yet renamed. The next
process continues, forked from one that has imported everything and drawn the tasks of the plan, but computed
nothing on a device. Other banks would add stages of the same kinds.
"""

from __future__ import annotations

import jax
import numpy as np

from constellation.experiments.files import SAMPLES, SCORES, SUMMARY, TASKS, numbered
from constellation.selftraining.finetune import load_adapter
from tests.experiments.forking import killed_study
from tests.tiny_study import write_tiny_model

KILLS = """
import itertools, json, os, signal, sys
from pathlib import Path
import constellation.critic, constellation.experiments.plan, constellation.selftraining.finetune
import constellation.evaluation.report, constellation.model.tokenizer
from constellation import conductor
from constellation.domains.trapdoor import DOMAIN
from constellation.experiments import plan, report
from constellation.experiments.run import run
from constellation.runtime.progress import Progress
from tests.experiments.forking import forked
from tests.tiny_study import StandIn, tiny_config

os.fsync = lambda handle: None  # a kill, unlike a power cut, loses nothing that was written
model_dir, root = Path(sys.argv[1]), Path(sys.argv[2])
config = tiny_config(model_dir, tasks__banks="hard")
plan.tuning_tasks(DOMAIN.bank, config.tasks.seed)

def study(workdir, stage=None, moment=None):
    running = None

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def run_stage(self, run, partial, recipe, made_of, original=conductor.Conductor._run):
        nonlocal running
        running = recipe["name"]
        def work(path):
            run(path)
            if (running, moment) == (stage, "half"):  # without progress: written, not recorded
                kill()
        original(self, work, partial, recipe, made_of)
        if (running, moment) == (stage, "rename"):
            kill()

    def update(self, *arguments, original=Progress.update, **values):
        original(self, *arguments, **values)
        if (running, moment) == (stage, "half") and 2 * self.done >= self.total:
            kill()

    conductor.Conductor._run, Progress.update = run_stage, update
    run(config, str(workdir), compute=StandIn(workdir))

def forked_study(*arguments):
    return forked(root / "log", lambda: study(*arguments))

assert forked_study(root / "whole") == 0
stages = sorted((root / "whole/stages").iterdir(), key=lambda path: path.stat().st_ctime_ns)
killed = []
for number, path in enumerate(stages):
    trained = (path / "adapter").exists()  # has checkpoints of its own to go on from
    moment = "half" if trained or number % 2 else "rename"
    code = forked_study(root / "killed", path.name, moment)
    found = sorted(left.name for left in (root / "killed/stages").glob("*.partial"))
    killed.append([path.name, moment, code, found])
print(json.dumps([killed, forked_study(root / "killed")]))
"""


def test_killed_in_every_stage(tmp_path):
    model_dir = write_tiny_model(tmp_path / "model")
    kills, log = killed_study(KILLS, model_dir, tmp_path)
    assert len(kills) >= 20
    for name, moment, code, partial in kills:
        assert (code, partial) == (-9, [f"{name}.partial"]), (name, moment, log)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (killed / "findings.json").read_bytes() == (whole / "findings.json").read_bytes()
    for name, *_ in kills:
        for file in (TASKS, *(numbered(name, 0) for name in (TASKS, SAMPLES, SCORES)), SUMMARY):
            path = whole / "stages" / name / file
            if path.exists():
                assert (killed / "stages" / name / file).read_bytes() == path.read_bytes(), path
    trained = load_adapter(killed / "stages/v1")[0].weights
    jax.tree.map(np.testing.assert_array_equal, trained, load_adapter(whole / "stages/v1")[0].weights)
