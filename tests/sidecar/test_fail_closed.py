"""What is not known to be allowed is refused: unknown routes, odd spellings and odd bodies are judged like all others."""

from __future__ import annotations

import json
import random

import pytest
import zstandard

from llmendpoint_common.contracts.sidecar import ModelManagement, SidecarConfig, TenantConfig, TenantLimits
from llmendpoint_common.wire.routes import ROUTES, RouteClass
from llmendpoint_sidecar.inputs.keys import KeyTable, digest
from support.waiting import eventually
from support.wire.data_path import DataPath

FORBIDDEN = SidecarConfig(model_management=ModelManagement.FORBIDDEN)
TINY = TenantLimits(allowed_models=("tiny",))
KEYS = KeyTable(b"pepper", {digest(b"pepper", f"key-of-{tenant}".encode()): tenant for tenant in "ab"})
INFERENCE = sorted({route.path.decode() for route in ROUTES if route.route_class is RouteClass.INFERENCE})
JSON_INFERENCE = [path for path in INFERENCE if "transcriptions" not in path]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
UNKNOWN = ["/api/next", "/v1/next/thing", "/x", "/api/generate/", "/API/generate", "/debug/pprof/heap"]


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def form(model: str, name: str = 'name="model"') -> tuple[bytes, str]:
    """Return a multipart form, and its header."""
    part = f"--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{model}\r\n--x--\r\n"
    return part.encode(), "Content-Type: multipart/form-data; boundary=x"


class Judge(DataPath):
    """A data path with an upstream that answers everything."""

    def ask(self, data: bytes) -> str:
        """Send a request, and return the status that the proxy answers, or `forwarded`."""
        before = len(self.upstreams)
        client, wire = self.connect()
        client.data_received(data)
        if len(self.upstreams) > before:
            assert not wire.written
            self.upstreams[-1][0].data_received(OK)
            return "forwarded"
        return wire.written.split(b" ")[1].decode() if wire.written else "nothing"

    def outcomes(self) -> dict[str, int]:
        return dict(self.metrics.totals_by("requests", "outcome"))


# ---- routes


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/pull", b'{"model":"tiny"}'),
        ("POST", "/api/%70ull?x=1", b'{"model":"tiny"}'),
        ("POST", "/api/experimental/aliases", b'{"alias":"notyet","target":"secret"}'),
        ("DELETE", "/api/experimental/aliases", b'{"alias":"notyet"}'),
        ("POST", "/api/signout", b""),
        ("POST", "/api/me", b""),
        ("DELETE", "/api/user/keys/1", b""),
        ("GET", "/api/blobs/sha256:0", b""),
        ("HEAD", "/api/blobs/sha256:0", b""),
        ("PUT", "/api/blobs/sha256:0", b"x"),
        ("GET", "/debug/pprof/", b""),
        ("GET", "/debug/pprof/heap", b""),
        ("POST", "/debug/pprof/symbol", b"0x1"),
        ("GET", "/api/next", b""),
        ("HEAD", "/api/next", b""),
        ("PUT", "/api/next", b'{"model":"tiny"}'),
        ("PATCH", "/api/chat", b'{"model":"tiny"}'),
        ("DELETE", "/api/chat", b'{"model":"tiny"}'),
        ("GET", "/api/generate", b""),
        ("GET", "/api/tags/", b""),
        ("TRACE", "/", b""),
        ("POST", "/", b""),
        ("POST", "/api/next", b""),
        ("POST", "/api/next", b"{}"),
        ("POST", "/api/next", b'{"name":"tiny"}'),
        ("POST", "/api/next", b'{"model":null}'),
        ("POST", "/api/next", b'[{"model":"tiny"}]'),
        ("POST", "/api/next", b"model=tiny"),
        ("POST", "/api/next", b"\x00\xff not a body"),
    ],
)
def test_without_management_everything_else_is_403(method: str, path: str, body: bytes) -> None:
    judge = Judge(FORBIDDEN)
    assert judge.ask(request(method, path, body)) == "403"
    assert judge.outcomes() == {"rejected_management": 1}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("HEAD", "/"), ("GET", "/api/version"), ("GET", "/api/tags"), ("HEAD", "/api/tags"), ("GET", "/api/ps"),
     ("POST", "/api/show"), ("GET", "/v1/models"), ("GET", "/v1/models/tiny"), ("OPTIONS", "/api/chat"),
     ("OPTIONS", "/api/pull"), ("OPTIONS", "/api/next"), ("OPTIONS", "*"), *(("POST", path) for path in INFERENCE)],
)  # fmt: skip
def test_without_management_models_can_still_be_used_and_looked_at(method: str, path: str) -> None:
    body, header = form("tiny") if "transcriptions" in path else (b'{"model":"tiny"}', "X: y")
    assert (
        Judge(FORBIDDEN).ask(request(method, path, b"" if method in ("GET", "HEAD", "OPTIONS") else body, header))
        == "forwarded"
    )


@pytest.mark.parametrize("path", UNKNOWN[:-1])
@pytest.mark.parametrize("management", list(ModelManagement))
def test_an_unknown_route_that_names_a_model_is_inference(path: str, management: ModelManagement) -> None:
    config = SidecarConfig(
        model_management=management, max_waiting=1, default_tenant=TenantLimits(allowed_models=("m", "tiny"))
    )
    for body, *headers in ((b'{"model":"%b"}', "X: y"), (form("%b")[0], form("%b")[1])):
        judge = Judge(config)
        assert judge.ask(request("POST", path, body.replace(b"%b", b"m"), *headers)) == "forwarded"
        assert judge.ask(request("POST", path, body.replace(b"%b", b"secret"), *headers)) == "403"
        assert judge.outcomes() == {"ok": 1, "rejected_model": 1}
        # It waits in the queue of its model, and fills it.
        for _ in range(2):
            client, _ = judge.connect()
            client.data_received(request("POST", path, body.replace(b"%b", b"m"), *headers))
        assert judge.ask(request("POST", "/api/chat", b'{"model":"m"}')) == "503"
        assert judge.ask(request("POST", path, body.replace(b"%b", b"m"), *headers)) == "503"


def test_an_unknown_route_is_charged_to_its_tenant_and_labelled_with_its_model() -> None:
    limits = TenantConfig(name="a", tokens_per_minute=100, requests_per_minute=3)
    judge = Judge(SidecarConfig(model_management=ModelManagement.FORBIDDEN, tenants=(limits,)), keys=KEYS)
    data = request("POST", "/v1/next", b'{"model":"m","prompt":"%b"}' % (b"x" * 1000), "x-api-key: key-of-a")
    assert [judge.ask(data) for _ in range(2)] == ["forwarded", "429"]
    assert judge.metrics.totals_by("requests", "tenant") == {"a": 2}
    assert judge.metrics.totals_by("requests", "model_name") == {"m:latest": 2}
    assert judge.ask(data.replace(b"key-of-a", b"key-of-c")) == "401"


@pytest.mark.parametrize("path", INFERENCE)
def test_every_limit_applies_to_every_inference_route(path: str) -> None:
    def ask(judge: Judge, model: str = "m") -> str:
        body, header = form(model) if "transcriptions" in path else (json.dumps({"model": model}).encode(), "X: y")
        return judge.ask(request("POST", path, body, header))

    assert ask(Judge(SidecarConfig(default_tenant=TINY))) == "403"
    limited = Judge(SidecarConfig(default_tenant=TenantLimits(requests_per_minute=1)))
    assert [ask(limited), ask(limited)] == ["forwarded", "429"]
    full = Judge(SidecarConfig(max_waiting=1))
    for _ in range(2):
        full.connect()[0].data_received(request("POST", "/api/chat", b'{"model":"m"}'))
    assert ask(full) == "503"
    running = Judge(SidecarConfig(default_tenant=TenantLimits(max_concurrent=1)))
    running.connect()[0].data_received(request("POST", "/api/chat", b'{"model":"m"}'))
    assert ask(running) == "429"


# ---- names


@pytest.mark.parametrize(
    "name",
    ["tiny", "TINY", "tiny:LATEST", "library/tiny", "registry.ollama.ai/library/tiny", "Registry.Ollama.AI/Library/Tiny:Latest",
     "https://registry.ollama.ai/library/tiny", "ollama://registry.ollama.ai/library/tiny:latest"],
)  # fmt: skip
def test_names_are_compared_as_ollama_compares_them(name: str) -> None:
    body = json.dumps({"model": name}).encode()
    for allowed in ("tiny", "TINY:latest", "registry.ollama.ai/library/tiny"):
        judge = Judge(SidecarConfig(default_tenant=TenantLimits(allowed_models=(allowed,))))
        assert judge.ask(request("POST", "/api/chat", body)) == "forwarded"
    assert Judge(SidecarConfig(default_tenant=TINY)).ask(request("POST", "/api/chat", body)) == "forwarded"
    # All names share the slots of one model. The data path lists `m`.
    same = name.replace("tiny", "m").replace("TINY", "M").replace("Tiny", "M")
    judge = Judge(SidecarConfig(max_waiting=1))
    for model in ("m", same):
        judge.connect()[0].data_received(request("POST", "/api/chat", json.dumps({"model": model}).encode()))
    assert judge.ask(request("POST", "/api/chat", b'{"model":"m:latest"}')) == "503"


@pytest.mark.parametrize(
    "name", ["tiny:1b", "other/tiny", "example.com/library/tiny", "tiny2", "tiny:latest:latest", "tiny/", "tin\u00ff"]
)
def test_other_models_with_similar_names_are_refused(name: str) -> None:
    judge = Judge(SidecarConfig(default_tenant=TINY))
    assert judge.ask(request("POST", "/api/chat", json.dumps({"model": name}).encode())) == "403"


# ---- bodies

ODD = {
    "a thousand levels": b'{"model":"%b","x":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "nine thousand levels": b'{"model":"%b","x":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"}",
    "a lone surrogate": b'{"prompt":"cut \\ud83d","model":"%b"}',
    "bytes that are not UTF-8": b'{"prompt":"\xff\xfe","model":"%b"}',
    "a name in another case": b'{"prompt":"x","MoDeL":"%b"}',
    "a repeated name": b'{"model":"%a","model":"%b"}',
    "an escaped name": b'{"\\u006dodel":"%b"}',
    "text after the object": b'{"model":"%b"} {"model":"%a"}',
    "a large number": b'{"model":"%b","x":' + b"9" * 5000 + b"}",
    "a null before": b'{"model":"%b","model":null}',
    "spaces": b" \n\t" * 1000 + b'{"model" \n:\t"%b"}',
    "an escaped value": b'{"model":"\\u0%x"}',
}


def filled(body: bytes, good: bytes, bad: bytes) -> bytes:
    body = body.replace(b"%a", bad).replace(b"%b", good)
    return body.replace(b"\\u0%x", b"".join(b"\\u%04x" % byte for byte in good))


@pytest.mark.parametrize("path", ["/api/chat", "/v1/completions", "/v1/images/generations", "/api/next"])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_body_is_judged_by_the_model_that_ollama_reads_and_is_passed_on(name: str, path: str) -> None:
    limits = TenantConfig(name="a", allowed_models=("m",), tokens_per_minute=10**6)
    judge = Judge(SidecarConfig(tenants=(limits,)), keys=KEYS)
    good, bad = filled(ODD[name], b"m", b"secret"), filled(ODD[name], b"secret", b"m")
    assert judge.ask(request("POST", path, bad, "x-api-key: key-of-a")) == "403"
    assert judge.ask(request("POST", path, good, "x-api-key: key-of-a")) == "forwarded"
    assert judge.upstreams[0][1].written.endswith(b"\r\n\r\n" + good)
    assert judge.metrics.totals_by("requests", "tenant") == {"a": 2}
    assert judge.metrics.totals_by("requests", "model_name")["m:latest"] == 1


DOUBTFUL = {
    "two spellings of the field": (b'{"model":"m","Model":"secret"}', "X: y"),
    "a name that is not plain": form("m", "name*=utf-8''model"),
    "a part with a file name": form("m", 'name="model"; filename="f"'),
    "two models in a form": (form("m")[0].replace(b"--x--\r\n", form("m")[0]), form("m")[1]),
    "no boundary": (form("m")[0], "Content-Type: multipart/form-data"),
    "an unknown coding": (b'{"model":"m"}', "Content-Encoding: br"),
    "a coding that is not true": (b'{"model":"m"}', "Content-Encoding: zstd"),
    "zstd that is cut off": (zstandard.compress(b'{"model":"m"}')[:-3], "Content-Encoding: zstd"),
    "more than 64 MiB": (zstandard.compress(b'{"model":"m"' + b" " * 64 * 2**20 + b"}"), "Content-Encoding: zstd"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
async def test_a_body_in_doubt_is_400(name: str) -> None:
    body, header = DOUBTFUL[name]
    judge = Judge(SidecarConfig(default_tenant=TenantLimits(allowed_models=("m",))))
    path = "/v1/audio/transcriptions" if "Content-Type" in header else "/v1/responses"
    # A large compressed body is read later.
    assert judge.ask(request("POST", path, body, header)) in ("400", "nothing")
    await eventually(lambda: judge.outcomes() == {"rejected": 1})
    assert not judge.upstreams


def test_a_model_in_the_query_of_a_form_is_in_doubt() -> None:
    body, header = form("m")
    judge = Judge(SidecarConfig(max_waiting=9))
    assert judge.ask(request("POST", "/v1/audio/transcriptions?model=secret", body, header)) == "400"


def damaged(body: bytes, random_: random.Random) -> bytes:
    """Return a body with some bytes changed, removed or repeated."""
    data = bytearray(body)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        kind = random_.randrange(4)
        if kind == 0:
            data[at:at] = random_.choice(
                [b"\\", b'"', b"{", b"}", b"[", b"\x00", b"\xff", b",", b":", b"\\ud800", b"\r\n"]
            )
        elif kind == 1:
            del data[at : at + random_.randint(1, 8)]
        elif kind == 2:
            data[at:at] = data[at : at + random_.randint(1, 30)]
        elif at < len(data):
            data[at] = random_.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_to_a_body_raises_or_changes_who_is_charged(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    random_ = random.Random(seed)
    limits = TenantConfig(name="a", allowed_models=("m",), tokens_per_minute=10**9)
    judge = Judge(
        SidecarConfig(tenants=(limits,), max_waiting=10**6, model_management=ModelManagement.FORBIDDEN), keys=KEYS
    )
    whole = [filled(body, b"m", b"secret") for name, body in ODD.items() if "levels" not in name] + [form("m")[0]]
    for index in range(500):
        body = damaged(random_.choice(whole), random_)
        path = random_.choice([*INFERENCE, "/api/next"])
        headers = [
            "x-api-key: key-of-a",
            *random_.choice(
                [[], [form("m")[1]], ["Content-Encoding: zstd"], ["Content-Type: application/x-www-form-urlencoded"]]
            ),
        ]
        status = judge.ask(request("POST", path, body, *headers))
        assert status in ("forwarded", "400", "403"), (path, body)
        assert judge.metrics.totals_by("requests", "tenant") == {"a": index + 1}
    assert not caplog.records


@pytest.mark.parametrize("model", ['["other"]', '{"name":"other"}', '""', "7", "null"])
def test_on_an_unknown_route_only_a_name_is_a_model(model: str) -> None:
    body = b'{"model":%b,"source":"a","destination":"b"}' % model.encode()
    forbidden = Judge(FORBIDDEN)
    assert forbidden.ask(request("POST", "/api/next", body)) == "403"
    assert forbidden.outcomes() == {"rejected_management": 1}
    limited = Judge(SidecarConfig(default_tenant=TINY))
    assert limited.ask(request("POST", "/api/next", body)) == ("forwarded" if model == "null" else "403")


def test_a_model_in_the_query_of_an_unknown_route_is_in_doubt() -> None:
    judge = Judge(SidecarConfig(default_tenant=TINY))
    assert judge.ask(request("POST", "/api/next?model=other", b'{"model":"tiny"}')) == "400"


def test_an_unknown_route_is_refused_with_a_sentence_of_its_own() -> None:
    judge = Judge(FORBIDDEN)
    client, wire = judge.connect()
    client.data_received(request("GET", "/v1/next"))
    assert b"this route is not known" in wire.written
    assert b"spec.models" not in wire.written
