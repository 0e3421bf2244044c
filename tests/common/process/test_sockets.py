"""Listening sockets: what is said if an address cannot be used."""

from __future__ import annotations

import socket

import pytest

from llmendpoint_common.process.sockets import ListenError, bind_sockets
from llmendpoint_common.process.units import Address


def test_a_port_in_use_is_named_in_one_sentence_without_the_number_of_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ListenError) as raised:
            bind_sockets(Address("127.0.0.1", port))
    assert str(raised.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"
