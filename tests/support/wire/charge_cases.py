"""Requests for the fuzzer of charges: every route and its spellings, odd bodies, codings, framings and keys.

A case is one request as it is on the wire. Its head is valid HTTP; its body can be anything, and can be incomplete.
"""

from __future__ import annotations

import itertools
import json
import random
from functools import cache

import zstandard

from llmendpoint_common.wire.routes import ROUTES
from support.wire import go_corpus
from support.wire.corpus import corpus

#: Keys by tenant.
KEYS = {"a": b"key-of-a", "b": b"key-of-b"}
_METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"PROPFIND")
_MODELS = ("m", "m", "m:latest", "M", "library/m", "registry.ollama.ai/library/M:LATEST", "https://registry.ollama.ai/library/m",
           "other", "other:7b", "m:7b", "x/m", "", "hf.co/x/m", "m:", "/m", "\ud83d", "m\x00", "\u212a", "m" * 2000)  # fmt: skip
_UNKNOWN = (b"/api/next", b"/v1/rerank", b"/v2/chat", b"/metrics", b"/api/chat/", b"/API/CHAT", b"//api/chat", b"/api//pull",
            b"/x/../api/pull", b"/api/pull/", b"/api/create/x", b"/v1/models/x/y", b"/api/blobs", b"/api/user", b"/v1/",
            b"/api/chat;x", b"/v1/audio/speech", b"*")  # fmt: skip
_TYPES = (b"", b"", b"application/json", b"application/json", b"text/plain", b"application/x-www-form-urlencoded",
          b"multipart/form-data; boundary=x", b"multipart/form-data", b"multipart/mixed; boundary=x", b"\xff")  # fmt: skip
_CODINGS = (b"",) * 12 + (b"identity", b"gzip", b"zstd", b"ZSTD", b"zstd, zstd", b"br")
_JSON_TOKENS = (b'"model":"other",', b'"MODEL":"other",', b'"\\u006dodel":"m",', b'"model":null,', b'"model":', b"{", b"}", b"[", b"]",
                b'"', b"\\", b",", b":", b"null", b"\\ud800", b"\xff", b"\xc3", b"\x00", b" ", b"\n", b"NaN", b"1e999", b"//", b"\xef\xbb\xbf",
                b'"stream":true,', b'"stream_options":{"include_usage":true},', b"[" * 300, b"\r\n--x\r\n", b"&model=other",
                b"model=m&", b'name="model"')  # fmt: skip


def made(seed: int) -> bytes:
    """Return the case for a seed."""
    source = random.Random(seed)
    if source.random() < 0.1 and (kept := _kept()):
        head, separator, body = source.choice(kept).partition(b"\r\n\r\n")
        return head + separator + (body if b"chunked" in head.lower() else _damaged(body, source, keep_length=True))
    method, target = _line(source)
    body, kind, coding = _body(source)
    if method in (b"GET", b"HEAD", b"OPTIONS") and source.random() < 0.8:
        body = b""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: h", *_credentials(source)]
    lines += [b"Content-Type: " + kind] if kind else []
    lines += [b"Content-Encoding: " + coding] if coding else []
    if source.random() < 0.02:
        lines += source.choice(([b"Content-Type: text/plain"], [b"Content-Encoding: zstd"], [b"Expect: 100-continue"],
                                [b"Origin: http://h"], [b"X-Request-ID: a b"], [b"Connection: close"]))  # fmt: skip
    chance = source.random()
    if chance < 0.3:
        lines.append(b"Transfer-Encoding: chunked")
        framed = _chunked(body, source)
    else:
        length = len(body) if chance < 0.99 else source.choice((64 * 2**20 + 1, len(body) + 5))
        lines += [b"Content-Length: %d" % length] if body or chance < 0.9 else []
        framed = body
    data = b"\r\n".join(lines) + b"\r\n\r\n" + framed
    if source.random() < 0.05 and framed:
        return data[: len(data) - source.randrange(1, len(framed) + 1)]
    return data


@cache
def _kept() -> list[bytes]:
    return [data for data in corpus("charges").values() if len(data) < 20_000]


def _line(source: random.Random) -> tuple[bytes, bytes]:
    """Return a method and a target."""
    if source.random() < 0.25:
        method, target = b"POST", source.choice(_UNKNOWN)
    else:
        # Half of the routes are inference, of the requests three in four.
        route = source.choice(ROUTES if source.random() < 0.5 else ROUTES[:12])
        method, target = route.method or b"POST", route.path
        if target.endswith(b"/") and target != b"/":
            target += source.choice((b"", b"m", b"sha256:0", b"a/b"))
    if source.random() < 0.08:
        method = source.choice(_METHODS)
    if target != b"*" and source.random() < 0.25:
        target = _spelled(target, source)
    return method, target


def _spelled(target: bytes, source: random.Random) -> bytes:
    """Return another spelling of a target, which Ollama's router may or may not find equal."""
    # The first byte stays: a target that does not begin with a slash is not one.
    at = source.randrange(1, len(target)) if len(target) > 1 else 0
    one = target[at : at + 1]
    return source.choice((
        target[:1] + target[1:at] + b"%%%02x" % one[0] + target[at + 1 :] if at else target,
        b"".join(b"%%%02X" % byte for byte in target[1:]).join((b"/", b"")),
        target + source.choice((b"?", b"?x=1", b"?model=other", b"?model=m", b"?a=%2e", b"?/api/pull", b"?x://y/api/pull")),
        target + source.choice((b"/", b"%00", b"%2F", b"%", b"%zz", b"#x", b".", b";", b"%3fx", b"%20")),
        target[:at] + one.swapcase() + target[at + 1 :],
        target[:at] + b"/" + target[at:],
        b"http://h" + target,
        b"HTTP://H:80" + target + b"?x=http://y",
    ))  # fmt: skip


def _credentials(source: random.Random) -> list[bytes]:
    """Return header lines with a key, or with something like one."""
    a, b = KEYS["a"], KEYS["b"]
    return source.choice((
        [b"Authorization: Bearer " + a], [b"Authorization: Bearer " + a], [b"x-api-key: " + a], [b"X-API-KEY:  " + a],
        [b"authorization: bEARER  " + a + b" "], [b"Authorization: Bearer " + b], [b"x-api-key: " + b],
        [b"Authorization: Bearer " + a, b"x-api-key: " + b], [b"x-api-key: " + a, b"Authorization: Bearer nobody"],
        [b"Authorization: Basic " + a], [b"Authorization: " + a], [b"Authorization: Bearer"], [],
        [b"Authorization: Bearer " + b, b"Authorization: Bearer " + a], [b"Authorization: Basic x", b"x-api-key: " + a],
    ))  # fmt: skip


def _body(source: random.Random) -> tuple[bytes, bytes, bytes]:
    """Return a body, its Content-Type and its Content-Encoding."""
    kind, coding = source.choice(_TYPES), source.choice(_CODINGS)
    chance = source.random()
    if chance < 0.45:
        body = _json(source)
    elif chance < 0.65:
        question = source.choice(_questions())
        body = question.bytes()
        kind = question.content_type.encode("latin-1") or kind
        coding = b"zstd" if question.kind == "zstd" else coding
    elif chance < 0.75:
        body = _deep(source)
    elif chance < 0.85:
        body, kind = _form(source)
    else:
        body = source.choice((b"", b"null", b"[]", b'"m"', b"{", b"\xff\xfe{", b"0", b"model=m", source.randbytes(40)))
    if source.random() < 0.35:
        body = _damaged(body, source)
    if coding.lower() == b"zstd" and source.random() < 0.9 and not body.startswith(b"\x28\xb5\x2f\xfd"):
        body = _compressed(body, source)
    return body, kind, coding


@cache
def _questions() -> list[go_corpus.Question]:
    """Return the bodies whose readings by Go are recorded, except the largest."""
    return [
        question
        for question, _ in go_corpus.recorded()[0]
        if sum(len(text) * count for text, count in question.body) < 300_000
    ]


def _json(source: random.Random) -> bytes:
    fields: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
    if source.random() < 0.6:
        fields["stream"] = source.choice((True, True, True, False, None))
    if source.random() < 0.2:
        fields["stream_options"] = source.choice(({"include_usage": True}, {}, None, {"include_usage": False}))
    if source.random() < 0.03:
        fields["x"] = "y" * source.choice((5_000, 20_000, 70_000, 150_000))
    names = list(fields.items())
    if source.random() < 0.9:
        names.insert(source.randrange(len(names) + 1), ("model", source.choice(_MODELS)))
    if source.random() < 0.15:
        name = source.choice(("model", "MODEL", "Model", "mod\u0435l", "model "))
        names.insert(source.randrange(len(names) + 1), (name, source.choice((*_MODELS, None, 5, ["m"]))))
    if source.random() < 0.01:
        names += [("model", "m")] * 70
    escape = source.random() < 0.9
    members = [json.dumps(name) + ":" + json.dumps(value, ensure_ascii=escape) for name, value in names]
    text = "{" + ",".join(members) + "}" + source.choice(("", "", "", "\n", " x", '{"model":"other"}'))
    return text.encode("utf-8", "surrogatepass")


def _deep(source: random.Random) -> bytes:
    """Return nested values, at depths around those at which readers give up."""
    depth = source.choice((10, 200, 500, 990, 1000, 1024, 5_000, 9_990, 9_998, 9_999, 10_000, 10_001, 20_000))
    value = source.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    model = json.dumps(source.choice(_MODELS)).encode()
    return source.choice((
        b'{"x":%b,"model":%b}' % (value, model), b'{"model":%b,"x":%b}' % (model, value), value,
        b'{"model":"m","x":%b,"model":%b}' % (value, model), b'{"model":"m"}%b' % value,
    ))  # fmt: skip


def _form(source: random.Random) -> tuple[bytes, bytes]:
    model = source.choice(_MODELS).encode("utf-8", "replace")
    if source.random() < 0.3:
        return source.choice(
            (b"model=%b&x=1", b"x=1&model=%b", b"mod%%65l=%b")
        ) % model, b"application/x-www-form-urlencoded"
    part = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    parts = [
        part % (b"model", model),
        part % (b"file", b"\x00" * source.choice((10, 10, 100_000))),
        part % (b"prompt", b"--x-"),
    ]
    if source.random() < 0.15:
        parts.append(part % (b"model", b"other"))
    source.shuffle(parts)
    return b"".join(parts) + source.choice((b"--x--\r\n", b"--x--", b"--x", b"")), b"multipart/form-data; boundary=x"


def _compressed(body: bytes, source: random.Random) -> bytes:
    coder = zstandard.ZstdCompressor(write_content_size=source.random() < 0.5)
    chance = source.random()
    if chance < 0.1:
        return coder.compress(body[:10]) + coder.compress(body[10:])
    if chance < 0.15:
        return coder.compress(body + b" " * source.choice((10_000, 200_000, 1_000_000)))
    data = coder.compress(body)
    return _damaged(data, source) if chance < 0.4 else data


def _damaged(data: bytes, source: random.Random, *, keep_length: bool = False) -> bytes:
    """Return bytes of which some were changed, removed, doubled or inserted."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 4))):
        at = source.randrange(len(changed) + 1)
        kind = source.randrange(5)
        token = source.choice(_JSON_TOKENS)
        if kind == 0 and changed:
            changed[at % len(changed)] = source.randrange(256)
        elif kind == 1:
            changed[at:at] = token
        elif kind == 2:
            del changed[at : at + source.randrange(1, 12)]
        elif kind == 3:
            changed[at:at] = changed[at : at + source.randrange(1, 60)]
        else:
            changed[at : at + len(token)] = token
    return bytes(changed[: len(data)].ljust(len(data))) if keep_length else bytes(changed)


def _chunked(body: bytes, source: random.Random) -> bytes:
    cuts = sorted(source.randrange(len(body) + 1) for _ in range(source.choice((0, 1, 3))))
    edges = [0, *cuts, len(body)]
    pieces = [body[begin:end] for begin, end in itertools.pairwise(edges)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
