"""The processes of `llmendpoint demo`: they are ready when they answer themselves."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

import llmendpoint_cli.stack.process
from llmendpoint_cli.stack.process import process
from llmendpoint_common.process.errors import StackError
from support.api_server.control_plane import free_port
from support.machine.other_programs import another_server


def test_the_answer_of_another_program_on_the_port_is_not_that_of_ours() -> None:
    with another_server() as url:
        port = urlsplit(url).port
        arguments = [f"--listen=127.0.0.1:{port}"]
        with (
            pytest.raises(StackError, match=r"(?s)ended with exit code 1:.*Address already in use"),
            process("llmendpoint_simulator", arguments, f"{url}/livez"),
        ):
            pytest.fail("the demo would measure another program")


def test_a_program_that_answers_that_it_is_not_ready_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llmendpoint_cli.stack.process, "_START_SECONDS", 3.0)
    admin = free_port()
    arguments = ["--listen=127.0.0.1:0", f"--admin-listen=127.0.0.1:{admin}", "--upstream=http://127.0.0.1:1"]
    with (
        pytest.raises(StackError, match="/readyz did not answer within 3 s"),
        process("llmendpoint_sidecar", arguments, f"http://127.0.0.1:{admin}/readyz"),
    ):
        pytest.fail("the demo would send requests to a proxy that is not ready")
