"""Record the answers of a real Ollama on every route, byte by byte, for the tests of byte identity.

    python scripts/record_exchanges.py 127.0.0.1:11434 MODEL > tests/sidecar/exchanges.json

Use a small model; it is copied, asked and unloaded. The recording contains only the prompts below.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

_PROMPT = "Say hello."
_MESSAGES = [{"role": "user", "content": _PROMPT}]
_DIGEST = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of `hello`


def requests(model: str) -> Iterator[tuple[str, str, str, Any]]:
    """Yield name, method, path and body of each request. The body is a JSON value, bytes, or None."""
    short = {"options": {"num_predict": 6, "seed": 1}}
    for name, path in (
        ("root", "/"), ("version", "/api/version"), ("tags", "/api/tags"), ("ps", "/api/ps"),
        ("openai models", "/v1/models"), ("openai model", f"/v1/models/{model}"), ("unknown route", "/api/nothing"),
    ):  # fmt: skip
        yield name, "GET", path, None
    yield "head", "HEAD", "/", None
    yield "load", "POST", "/api/generate", {"model": model}
    for streaming in (True, False):
        kind = "stream" if streaming else "whole"
        completion = {"model": model, "max_tokens": 6, "seed": 1, "stream": streaming}
        usage = {"stream_options": {"include_usage": True}} if streaming else {}
        yield (
            f"generate {kind}",
            "POST",
            "/api/generate",
            {"model": model, "prompt": _PROMPT, "stream": streaming, **short},
        )
        yield f"chat {kind}", "POST", "/api/chat", {"model": model, "messages": _MESSAGES, "stream": streaming, **short}
        yield f"openai chat {kind}", "POST", "/v1/chat/completions", {**completion, **usage, "messages": _MESSAGES}
        yield f"openai completion {kind}", "POST", "/v1/completions", {**completion, **usage, "prompt": _PROMPT}
        answer = {"model": model, "input": _PROMPT, "max_output_tokens": 6, "stream": streaming}
        yield f"openai response {kind}", "POST", "/v1/responses", answer
        yield f"anthropic message {kind}", "POST", "/v1/messages", {**completion, "messages": _MESSAGES}
    completion = {"model": model, "max_tokens": 6, "stream": True}
    yield "openai chat without usage", "POST", "/v1/chat/completions", {**completion, "messages": _MESSAGES}
    yield "embed", "POST", "/api/embed", {"model": model, "input": [_PROMPT, "Hello."]}
    yield "embeddings", "POST", "/api/embeddings", {"model": model, "prompt": _PROMPT}
    yield "openai embeddings", "POST", "/v1/embeddings", {"model": model, "input": _PROMPT}
    yield "show", "POST", "/api/show", {"model": model}
    yield "chat of no model", "POST", "/api/chat", {"model": "no-such-model", "messages": _MESSAGES}
    yield "openai chat of no model", "POST", "/v1/chat/completions", {"model": "no-such-model", "messages": _MESSAGES}
    yield "chat that is no JSON", "POST", "/api/chat", b"{"
    yield "copy", "POST", "/api/copy", {"source": model, "destination": "copied"}
    yield "create", "POST", "/api/create", {"model": "created", "from": model, "system": "Be brief."}
    yield "delete", "DELETE", "/api/delete", {"model": "copied"}
    yield "delete created", "DELETE", "/api/delete", {"model": "created"}
    yield "pull that fails", "POST", "/api/pull", {"model": "127.0.0.1:9/none/none", "insecure": True}
    yield "blob that is not there", "HEAD", f"/api/blobs/{_DIGEST}", None
    yield "blob with a wrong digest", "POST", f"/api/blobs/{_DIGEST}", b"not hello"
    yield "blob", "POST", f"/api/blobs/{_DIGEST}", b"hello"
    yield "blob that is there", "POST", f"/api/blobs/{_DIGEST}", b"hello"
    yield "unload", "POST", "/api/generate", {"model": model, "keep_alive": 0}


def record(address: tuple[str, int], method: str, path: str, body: Any) -> dict[str, Any]:
    """Send one request, and return it with the pieces of its answer as they arrived."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    framing = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n" if data else ""
    request = (
        f"{method} {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nAccept: */*\r\n{framing}\r\n".encode() + data
    )
    pieces: list[str] = []
    with socket.create_connection(address) as sock:
        sock.sendall(request)
        sock.settimeout(60)
        while not _is_whole(method, "".join(pieces)):
            piece = sock.recv(65536)
            if not piece:
                break
            pieces.append(piece.decode("latin-1"))
        # No bytes may follow: the connection must be idle until the next request.
        sock.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            assert not sock.recv(1)
    return {"request": request.decode("latin-1"), "response": pieces}


def _is_whole(method: str, text: str) -> bool:
    head, separator, body = text.partition("\r\n\r\n")
    if not separator:
        return False
    fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")[1:]}
    if method == "HEAD" or head.split(" ")[1] in ("204", "304"):
        return True
    if fields.get("transfer-encoding") == "chunked":
        return body.endswith("0\r\n\r\n")
    return len(body) >= int(fields.get("content-length", "0"))


def main() -> int:
    host, _, port = sys.argv[1].rpartition(":")
    address, model = (host, int(port)), sys.argv[2]
    found = {}
    for name, method, path, body in requests(model):
        found[name] = record(address, method, path, body)
        print(
            f"{name}: {found[name]['response'][0].splitlines()[0]}, {len(found[name]['response'])} pieces",
            file=sys.stderr,
        )
        time.sleep(0.05)
    json.dump(found, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
