"""Blobs: files that are uploaded for new models, by digest. Only the digests are kept."""

from __future__ import annotations

import hashlib
import re

from llmendpoint_simulator.serving.connection import Request
from llmendpoint_simulator.serving.responses import JSON_UTF8, Response
from llmendpoint_simulator.shapes.base import failure

PATH = "/api/blobs/"
_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


class Upload:
    """The body of an upload. As in Ollama, an existing blob is answered immediately, and a wrong digest at the end."""

    def __init__(self, digest: str, blobs: set[str]) -> None:
        self.digest = digest
        self._seen = hashlib.sha256()
        self._blobs = blobs
        self.answer: Response | None = _refusal(digest)
        if self.answer is None and digest in blobs:
            self.answer = Response(200)

    def feed(self, part: bytes) -> None:
        """Receive a part of the blob."""
        self._seen.update(part)

    def finish(self) -> Response:
        """Return the response at the end of the body."""
        found = f"sha256:{self._seen.hexdigest()}"
        if self.digest != found:
            return failure(400, f'digest mismatch, expected "{self.digest}", got "{found}"')
        self._blobs.add(self.digest)
        return Response(201)


class Blobs:
    """The digests of the blobs that are present, and uploads of others."""

    def __init__(self) -> None:
        self.present: set[str] = set()

    def receive(self, method: str, path: str, _: dict[str, str]) -> Upload | None:
        """Return what receives the body of a request, if it is an upload."""
        if method != "POST" or not path.startswith(PATH):
            return None
        return Upload(path.removeprefix(PATH), self.present)

    def head(self, request: Request) -> Response:
        """Say whether a blob is present."""
        digest = request.path.removeprefix(PATH)
        refusal = _refusal(digest)
        if refusal is not None:
            return refusal
        if digest in self.present:
            return Response(200)
        return failure(404, f'blob "{digest}" not found')

    def upload(self, request: Request) -> Response:
        """Answer an upload whose body has been received."""
        upload = request.sink
        if not isinstance(upload, Upload):
            return Response(404, b"404 page not found", "text/plain")
        return upload.answer or upload.finish()


def _refusal(digest: str) -> Response | None:
    if _DIGEST.fullmatch(digest):
        return None
    return Response(400, b'{"error":"invalid digest format"}', JSON_UTF8)
