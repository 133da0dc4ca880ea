"""A study of peers that is killed once in a stage of every kind ends as one that was not."""

from __future__ import annotations

from pathlib import Path

from tests.experiments.forking import killed_study
from tests.tiny_peers import write_tiny_peer

KILLS = """
import json, os, signal, sys
from pathlib import Path
import constellation.experiments.peers.run, constellation.model.tokenizer, constellation.solve
from constellation import conductor
from constellation.experiments.peers.run import run_peers
from tests.experiments.forking import forked
from tests.tiny_peers import Answering, tiny_peers

os.fsync = lambda handle: None  # a kill, unlike a power cut, loses nothing that was written
root = Path(sys.argv[2])
config = tiny_peers(Path(sys.argv[1]), trajectories=1, arms="pst,oracle")

def study(workdir, stage=None, moment=None):
    def run_stage(self, run, partial, recipe, made_of, original=conductor.Conductor._run):
        def work(path):
            run(path)
            if (recipe["name"], moment) == (stage, "written"):
                os.kill(os.getpid(), signal.SIGKILL)
        original(self, work, partial, recipe, made_of)
        if (recipe["name"], moment) == (stage, "recorded"):
            os.kill(os.getpid(), signal.SIGKILL)

    conductor.Conductor._run = run_stage
    run_peers(config, str(workdir), Answering())

def forked_study(*arguments):
    return forked(root / "log", lambda: study(*arguments))

assert forked_study(root / "whole") == 0
stages = sorted((root / "whole/stages").iterdir(), key=lambda path: path.stat().st_ctime_ns)
kinds = {path.name.partition("_")[0]: path.name for path in reversed(stages)}  # the first of each
names = [path.name for path in stages if path.name in kinds.values()]
killed = [
    [name, forked_study(root / "killed", name, ("written", "recorded")[number % 2])]
    for number, name in enumerate(names)
]
print(json.dumps([killed, forked_study(root / "killed")]))
"""


def test_killed_in_every_kind_of_stage(tmp_path: Path) -> None:
    model_dir = write_tiny_peer(tmp_path / "model")
    kills, log = killed_study(KILLS, model_dir, tmp_path)
    kinds = (
        "bank draws samples greedy verification judged tasks answers agreement pmi pst alone oracle report"
    )
    assert {name.partition("_")[0] for name, _ in kills} == set(kinds.split())
    assert {code for _, code in kills} == {-9}, log
    found = [(tmp_path / run / "findings.json").read_bytes() for run in ("whole", "killed")]
    assert found[0] == found[1]
