"""The processes of `llmendpoint demo`: they are ready when they answer themselves."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from llmendpoint_cli.stack.process import process
from llmendpoint_common.process.errors import StackError
from support.other_programs import another_server


def test_the_answer_of_another_program_on_the_port_is_not_that_of_ours() -> None:
    with another_server() as url:
        port = urlsplit(url).port
        arguments = [f"--listen=127.0.0.1:{port}"]
        with (
            pytest.raises(StackError, match=r"(?s)ended with exit code 1:.*Address already in use"),
            process("llmendpoint_simulator", arguments, f"{url}/livez"),
        ):
            pytest.fail("the demo would measure another program")
