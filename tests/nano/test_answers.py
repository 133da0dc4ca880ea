"""Answers of models to the tasks of a corpus, as they are stored and read."""

from __future__ import annotations

import json

from constellation.domains.domain import load_domain
from constellation.nano.answers import LONGEST, Answer, Answered
from constellation.nano.corpus import Corpus

EQUATIONS = load_domain("equations")


def test_rambling_is_cut(tmp_path):
    """One answer of a thousand words would make its whole batch as wide."""
    corpus = Corpus(tmp_path, EQUATIONS.pretraining.sources, {"level4": 1.0}, 4)
    answered = Answered(corpus, EQUATIONS, (), "", (1.0,), 96)
    rambling = Answer(0, -1, "12+" * 1000, False, False)
    path = tmp_path / f"answers-0000-{answered.digest[:8]}.jsonl"
    path.write_text("".join(json.dumps([rambling]) + "\n" for _ in range(4)))
    [tasks] = corpus.shards(0, 1)
    assert answered.shard(0, tasks) == [[rambling._replace(text=rambling.text[:LONGEST])]] * 4
    assert all(len(task.program) < LONGEST for task in tasks)
