"""Small banks shared by the tests: what the study draws by the thousand."""

from __future__ import annotations

import pytest

from constellation.tasks.banks import make_bank
from constellation.tasks.task import Task


@pytest.fixture(scope="session")
def hard() -> list[Task]:
    return make_bank("hard", 48)


@pytest.fixture(scope="session")
def banks(hard: list[Task]) -> dict[str, list[Task]]:
    others = {"easy": 16, "withheld": 6, "tuning_easy": 8, "tuning_hard": 8}
    return {"hard": hard} | {name: make_bank(name, size) for name, size in others.items()}
