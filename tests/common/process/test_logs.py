"""Log lines: fields of the present task, and no credentials."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from llmendpoint_common.process.logs import JsonFormatter, TextFormatter, log_fields, without_secrets

JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IkJn.eyJpc3MiOiJrdWJlcm5ldGVz.c2lnbmF0dXJl-_x"


def line(message: str, *arguments: object, error: Exception | None = None) -> dict[str, str]:
    """Return a log line of the present task."""
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, message, arguments, info)
    return dict(json.loads(JsonFormatter().format(record)))


async def test_fields_belong_to_a_task_and_its_children() -> None:
    async def work(name: str) -> str:
        with log_fields(name=name):
            await asyncio.sleep(0)
            inner = await asyncio.create_task(child())
            assert line("words")["name"] == name
        assert "name" not in line("words")
        return inner

    async def child() -> str:
        with log_fields(step="two"):
            assert line("words")["step"] == "two"
            return line("words")["name"]

    assert list(await asyncio.gather(work("a"), work("b"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("{'authorization': 'Bearer abcdef0123456789'}", "abcdef0123456789"),
        ("Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        ("cannot connect to http://user:pa55w0rd@proxy.example:3128", "pa55w0rd"),
        (f"token {JWT} has expired", JWT),
    ],
)
def test_credentials_are_replaced_in_messages_and_tracebacks(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in line("failed: %s", text)["message"]
    error = OSError(text)
    assert secret not in line("failed", error=error)["exception"]
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, text, (), (OSError, error, None))
    assert secret not in TextFormatter().format(record)


def test_other_words_stay() -> None:
    for text in ("basic auth is off", "bearer of news", "https://a.example:443/x@y", "2 of 3 pods answer"):
        assert without_secrets(text) == text
