"""Results of a run show no credentials."""

from __future__ import annotations

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import RunDocument, RunLoad, RunRequest, RunTarget, without_secrets
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


def test_no_field_of_a_summary_has_a_credential() -> None:
    asked = document("http://h?key=hunter2", Authorization="Basic hunter2")
    summary = summarize(measure([failed(detail="x")], asked), asked)
    assert summary.target == "http://h?key=hidden"
    assert b"hunter2" not in msgspec.json.encode(summary)
