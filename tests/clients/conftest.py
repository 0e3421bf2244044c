"""Fixtures of the tests with client libraries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.real_ollama import RealOllama, running_ollama


@pytest.fixture(scope="session")
def real_ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    """A real Ollama with the scripted model, for all tests of the session."""
    with running_ollama(tmp_path_factory.mktemp("ollama")) as running:
        yield running
