"""What stages compute with: a value, so that a test can hand in another."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from constellation.runtime.processes import process_pool


class Compute:
    """Each function is imported when it is called: programs that only read finished stages need no JAX."""

    def sample(self, *arguments: Any, **named: Any) -> Any:
        from constellation.generator import sample

        return sample(*arguments, **named)

    def finetune(self, *arguments: Any, **named: Any) -> Any:
        from constellation.selftraining.finetune import finetune

        return finetune(*arguments, **named)

    def critic_scores(self, *arguments: Any, **named: Any) -> Any:
        from constellation.critic import critic_scores

        return critic_scores(*arguments, **named)

    def log_prob(self, *arguments: Any, **named: Any) -> Any:
        from constellation.model.score import log_prob

        return log_prob(*arguments, **named)

    def processes(self) -> Executor:
        """Several processes side by side, for work on the host."""
        return process_pool()
