"""Compiled programs are shared by all tests and by the processes they start."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that make a process use this cache; those started by a test inherit them."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    now = dict(zip(names, (str(tmp_path_factory.mktemp("xla")), 0.0), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in now.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield {name.upper(): str(value) for name, value in now.items()}
    for name, value in before.items():
        jax.config.update(name, value)
