"""Results of a run show no credentials."""

from __future__ import annotations

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import (
    RunDocument,
    RunLoad,
    RunRequest,
    RunTarget,
    secrets_of,
    without_secrets,
)
from llmendpoint_common.results.summary import summarize
from support.load.runs import failed, measure


def document(url: str = "http://h", **headers: str) -> RunDocument:
    return RunDocument(RunTarget(url), "m", RunLoad(concurrency=1), request=RunRequest(headers=headers or None))


@pytest.mark.parametrize(
    "name", ["Authorization", "proxy-authorization", "Cookie", "X-Api-Key", "X-Amz-Security-Token"]
)
def test_a_credential_in_a_header_is_hidden(name: str) -> None:
    shown = without_secrets(document(**{name: "hunter2", "X-Tenant": "blue"}))
    assert shown.request.headers == {name: "hidden", "X-Tenant": "blue"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/v1", "http://h/v1"),
        ("http://h/v1?key=hunter2", "http://h/v1?key=hidden"),
        ("http://h?v=1&api_key=a%20b&x", "http://h?v=1&api_key=hidden&x"),
        ("http://h?key=", "http://h?key="),
    ],
)
def test_a_credential_in_the_query_is_hidden(url: str, shown: str) -> None:
    assert without_secrets(document(url)).target.url == shown


def test_a_credential_in_the_body_is_hidden_and_numbers_are_not() -> None:
    body = {"api_key": "hunter2", "max_tokens": 7, "think": "high", "a": [{"auth": {"password": "hunter2", "n": 1}}]}
    asked = msgspec.structs.replace(document(), request=RunRequest(body=body))
    assert without_secrets(asked).request.body == {
        "api_key": "hidden", "max_tokens": 7, "think": "high", "a": [{"auth": {"password": "hidden", "n": 1}}],
    }  # fmt: skip
    assert asked.request.body == body


def test_a_credential_that_is_nested_deeply_is_hidden() -> None:
    body: dict[str, object] = {"key": "hunter2-deep"}
    for _ in range(500):
        body = {"x": body}
    asked = msgspec.structs.replace(document(), request=RunRequest(body=body))
    assert b"hunter2" not in msgspec.json.encode(without_secrets(asked))
    assert list(secrets_of(asked)) == ["hunter2-deep"]


def test_all_credentials_of_a_document_are_known() -> None:
    asked = document("http://h?key=a%20b&x=1", Authorization="Basic hunter2")
    asked = msgspec.structs.replace(
        asked,
        request=msgspec.structs.replace(asked.request, body={"tokens": ["t1-of-many", 2], "x": {"secret": "short"}}),
    )
    assert list(secrets_of(asked)) == ["Basic hunter2", "hunter2", "a b", "t1-of-many"]


def test_no_field_of_a_summary_has_a_credential() -> None:
    asked = document("http://h?key=hunter2", Authorization="Basic hunter2")
    summary = summarize(measure([failed(detail="x")], asked), asked)
    assert summary.target == "http://h?key=hidden"
    assert b"hunter2" not in msgspec.json.encode(summary)
