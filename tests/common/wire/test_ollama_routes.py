"""Every route of Ollama has the class that it should have. A route of a new version fails until somebody decides.

The routes are recorded by `scripts/record_routes.py`: of the release that the tests run, and of the newest source that
was available (a commit after 0.18).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmendpoint_common.wire.routes import RouteClass, operation_of, route_class

RECORDED: dict[str, list[tuple[str, str]]] = json.loads((Path(__file__).parent / "ollama_routes.json").read_text())
ROUTES = [(version, method, path) for version, routes in RECORDED.items() for method, path in routes]

#: What each route does, from reading its handler.
EXPECTED = {
    RouteClass.INFERENCE: {
        "POST /api/generate", "POST /api/chat", "POST /api/embed", "POST /api/embeddings", "POST /v1/chat/completions",
        "POST /v1/completions", "POST /v1/embeddings", "POST /v1/responses", "POST /v1/messages",
        "POST /v1/images/generations", "POST /v1/images/edits", "POST /v1/audio/transcriptions",
    },
    RouteClass.READ_ONLY: {
        "GET /", "HEAD /", "GET /api/version", "HEAD /api/version", "GET /api/status", "GET /api/tags", "HEAD /api/tags",
        "GET /api/ps", "POST /api/show", "GET /v1/models", "GET /v1/models/:model", "GET /api/experimental/aliases",
    },
    RouteClass.MANAGEMENT: {
        "POST /api/pull", "POST /api/push", "POST /api/create", "POST /api/copy", "DELETE /api/delete",
        "POST /api/blobs/:digest", "HEAD /api/blobs/:digest", "POST /api/me", "POST /api/signout",
        "DELETE /api/user/keys/:encodedKey", "POST /api/experimental/aliases", "DELETE /api/experimental/aliases",
        "POST /api/experimental/web_search", "POST /api/experimental/web_fetch",
    },
}  # fmt: skip
CLASSES = {route: expected for expected, routes in EXPECTED.items() for route in routes}


def test_the_release_that_the_tests_run_is_recorded() -> None:
    assert len(RECORDED["v0.17.4"]) > 30


@pytest.mark.parametrize(("version", "method", "path"), ROUTES, ids=[" ".join(route) for route in ROUTES])
def test_a_route_of_ollama_has_its_class(version: str, method: str, path: str) -> None:
    expected = CLASSES.get(f"{method} {path}")
    assert expected is not None, f"{method} {path} is new in {version}; decide what it does"
    target = "/".join("sha256:0" if part.startswith(":") else part for part in path.split("/"))
    assert route_class(method.encode(), operation_of(method.encode(), target.encode())) is expected


def test_no_class_is_decided_for_a_route_that_nobody_has() -> None:
    assert CLASSES.keys() == {f"{method} {path}" for _, method, path in ROUTES}


@pytest.mark.parametrize("route", sorted(EXPECTED[RouteClass.INFERENCE] | EXPECTED[RouteClass.MANAGEMENT]))
def test_no_spelling_that_reaches_a_route_has_another_class(route: str) -> None:
    """Ollama decodes the path once, and ignores the query. Other spellings were seen to get a redirect, 400 or 404."""
    method, _, path = route.partition(" ")
    target = path.replace(":", "x")
    for spelling in (
        target, f"{target}?model=tiny", f"{target}?", f"http://host:11434{target}", f"HTTP://HOST{target}?a=/b", f"http://{target}",
        target.replace("a", "%61"), target.replace("/", "%2F").replace("%2F", "/", 1), target.replace("e", "%65"),
    ):  # fmt: skip
        operation = operation_of(method.encode(), spelling.encode())
        assert route_class(method.encode(), operation) is CLASSES[route], spelling


@pytest.mark.parametrize(
    "path", ["/api/chat/", "//api/chat", "/api//chat", "/api/./chat", "/API/chat", "/api/chat%20", "/api/pull/"]
)
def test_a_spelling_that_does_not_reach_a_route_is_decided_by_its_body(path: str) -> None:
    assert route_class(b"POST", operation_of(b"POST", path.encode())) is None
