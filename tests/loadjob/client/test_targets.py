"""URLs of model servers: where each API's requests go, and which URLs are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.process.errors import InputError, TargetError
from llmendpoint_loadjob.client.target import parse_target, tls_context

_CHAT, _GENERATE, _OPENAI = Api.OLLAMA_CHAT, Api.OLLAMA_GENERATE, Api.OPENAI_CHAT


@pytest.mark.parametrize(
    ("url", "api", "expected"),
    [
        ("http://h", _CHAT, "/api/chat"),
        ("http://h/", _GENERATE, "/api/generate"),
        ("http://h", _OPENAI, "/v1/chat/completions"),
        # The base URLs that the SDKs take, and a whole URL.
        ("http://h/v1", _OPENAI, "/v1/chat/completions"),
        ("http://h/v1/", _OPENAI, "/v1/chat/completions"),
        ("http://h/v1", _CHAT, "/api/chat"),
        ("http://h/v1/chat", _OPENAI, "/v1/chat/completions"),
        ("http://h/v1/chat/completions", _OPENAI, "/v1/chat/completions"),
        ("http://h/v1/chat/completions/", _OPENAI, "/v1/chat/completions"),
        ("http://h/api", _CHAT, "/api/chat"),
        ("http://h/api", _GENERATE, "/api/generate"),
        ("http://h/api/chat", _CHAT, "/api/chat"),
        ("http://h/api/generate", _GENERATE, "/api/generate"),
        # A base path in front.
        ("http://h/ollama", _CHAT, "/ollama/api/chat"),
        ("http://h/a/b/v1", _OPENAI, "/a/b/v1/chat/completions"),
        ("https://h/api/v1", _OPENAI, "/api/v1/chat/completions"),
        ("https://h/api", _OPENAI, "/api/v1/chat/completions"),
        ("https://h/v1beta/openai/chat/completions", _OPENAI, "/v1beta/openai/chat/completions"),
        ("http://h/my%20models", _CHAT, "/my%20models/api/chat"),
        ("http://h/modèles", _CHAT, "/mod%C3%A8les/api/chat"),
        # A query is kept.
        ("http://h?x=1&y=%20", _CHAT, "/api/chat?x=1&y=%20"),
        ("http://h/v1/chat/completions?api-version=1", _OPENAI, "/v1/chat/completions?api-version=1"),
        (
            "http://h/openai/deployments/d/chat/completions?v=a@b",
            _OPENAI,
            "/openai/deployments/d/chat/completions?v=a@b",
        ),
    ],
)
def test_requests_go_to_the_path_of_the_api(url: str, api: Api, expected: str) -> None:
    assert parse_target(url).request_target(api) == expected


@pytest.mark.parametrize(
    ("url", "api", "sentence"),
    [
        (
            "http://h/v1/chat/completions",
            _CHAT,
            "the path of the API openai-chat, but the API of the requests is ollama-chat",
        ),
        ("http://h/api/chat", _OPENAI, "the path of the API ollama-chat, but the API of the requests is openai-chat"),
        ("http://h/api/chat", _GENERATE, "the path of the API ollama-chat"),
        ("http://h/api/generate", _CHAT, "the path of the API ollama-generate"),
        ("http://h/openai/chat/completions", _CHAT, "the path of the API openai-chat"),
        ("http://h/v1/completions", _OPENAI, "an API other than openai-chat; write only its base path"),
        ("http://h/v1/embeddings", _OPENAI, "write only its base path"),
        ("http://h/api/tags", _CHAT, "write only its base path"),
    ],
)
def test_the_path_of_another_api_is_refused(url: str, api: Api, sentence: str) -> None:
    with pytest.raises(TargetError, match=sentence):
        parse_target(url).request_target(api)


@pytest.mark.parametrize(
    ("url", "authority", "host"),
    [
        ("http://h", "h", "h"),
        ("http://h:80", "h", "h"),
        ("https://h:443/x", "h", "h"),
        ("https://h:80", "h:80", "h"),
        ("http://H.Example:8000", "h.example:8000", "h.example"),
        ("http://[::1]:11434", "[::1]:11434", "::1"),
        ("http://[fe80::1%25eth0]:1", "[fe80::1]:1", "fe80::1%eth0"),
        ("http://ä.example", "xn--4ca.example", "ä.example"),
    ],
)
def test_the_host_of_a_url(url: str, authority: str, host: str) -> None:
    target = parse_target(url)
    assert (target.authority, target.host) == (authority, host)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("127.0.0.1:11434", "is not a URL; write it like http://127.0.0.1:11435"),
        ("ftp://h", "is not a URL"),
        ("http://", "is not a URL"),
        ("http://:1", "is not a URL"),
        ("http://h:0", "is not a URL"),
        ("http://h:99999", "Port out of range"),
        ("http://h:x", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://a..b", "is not a URL"),
        ("http://" + "a" * 64, "is not a URL"),
        ("http://h#x", "has a fragment"),
        ("http://h/a b", "contains a space or a control character"),
        ("http://h/a\r\nX-Evil: 1", "contains a space or a control character"),
        ("http://h/\tv1", "contains a space or a control character"),
        ("", "is not a URL"),
    ],
)
def test_what_is_not_a_url_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(TargetError, match=sentence):
        parse_target(url)


@pytest.mark.parametrize(
    "url",
    ["http://user:hunter2@h", "http://hunter2@h:99999", "user:hunter2@h", "http://user:hunter2@h /", "http://h x?key=hunter2",
     "ftp://h?key=hunter2", "http://h#?key=hunter2"],
)  # fmt: skip
def test_a_refusal_quotes_neither_a_password_nor_a_query(url: str) -> None:
    with pytest.raises(TargetError) as refused:
        parse_target(url)
    assert "hunter2" not in str(refused.value)


def test_a_user_name_is_refused_and_the_sentence_says_what_to_use() -> None:
    with pytest.raises(TargetError, match="use an API key, or the header Authorization"):
        parse_target("https://user:pw@h")


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "No such file"), (b"no certificate", "contains no certificate")]
)
def test_a_file_without_certificates_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TargetError, match=f"^{path}: .*{sentence}"):
        tls_context(path, is_insecure=False)
    assert issubclass(TargetError, InputError)
