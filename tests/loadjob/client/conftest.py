"""A client of a server, closed at the end of the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.load.load_clients import Clients


@pytest.fixture
def client_of() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    for client in clients.made:
        client.close()
