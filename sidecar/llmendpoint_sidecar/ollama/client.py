"""Client for the calls that the sidecar itself makes to Ollama (types as in Ollama's api/types.go)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec

from llmendpoint_common.diagnosis.places import host_and_port
from llmendpoint_common.diagnosis.sentences import no_http, not_ollama, wrong_upstream
from llmendpoint_common.process.errors import NotOllamaError, OllamaError, OllamaSilentError
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.http1.heads import Headers

T = TypeVar("T")

#: The line of a Modelfile that names the weights. Models with a projector have several; the weights come first.
_FROM = re.compile(r"^FROM (\S+)", re.MULTILINE)
_CONNECT_SECONDS = 5.0
_GET_SECONDS = 5.0


class ListedModel(msgspec.Struct, frozen=True):
    """A model in `/api/tags`. `size` is in bytes. `remote_host` is set if it runs on another host (`:cloud` models)."""

    name: str
    digest: str = ""
    size: int = 0
    remote_host: str = ""


class LoadedModel(msgspec.Struct, frozen=True):
    """A model in `/api/ps`: memory in bytes, in total and on the GPU, and the time of its unload (RFC 3339)."""

    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    expires_at: str = ""
    context_length: int = 0


class _Listed(msgspec.Struct):
    models: list[ListedModel] = []


class _Loaded(msgspec.Struct):
    models: list[LoadedModel] = []


class _Version(msgspec.Struct):
    version: str = ""


class Description(msgspec.Struct, frozen=True):
    """The answer of `/api/show`: what a model can do, such as `completion` and `embedding`, and its Modelfile."""

    capabilities: list[str] = []
    modelfile: str = ""

    @property
    def weights(self) -> str:
        """The name of the file with the weights. Models with the same weights share memory."""
        found = _FROM.search(self.modelfile)
        return found[1].rpartition("/")[2] if found else ""


class PullProgress(msgspec.Struct):
    """A progress line of a pull. `total` and `completed` are bytes of the layer `digest`."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


class Ollama:
    """Client of an Ollama. Every call raises OllamaError if Ollama returns an error or cannot be reached."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        """The session. It is created on the first call, so that a process that fails to start has none to close."""
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                self._url, timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
            )
        return self._opened

    async def version(self) -> str:
        """Return the server's version. Raises NotOllamaError if something else answers."""
        path, where = "/api/version", host_and_port(self._url)
        try:
            return (await self._get(path, _Version)).version
        except OllamaError as error:
            cause = error.__cause__
            if error.status:
                raise NotOllamaError(wrong_upstream(where, path, error.status), error.status) from error
            if isinstance(cause, aiohttp.ClientError) and not isinstance(
                cause, aiohttp.ClientConnectorError | TimeoutError
            ):
                raise NotOllamaError(not_ollama(where, no_http(cause))) from error
            raise

    async def listed(self) -> list[ListedModel]:
        """Return the models that are present."""
        return (await self._get("/api/tags", _Listed)).models

    async def loaded(self) -> list[LoadedModel]:
        """Return the models in memory."""
        return (await self._get("/api/ps", _Loaded)).models

    async def described(self, name: str) -> Description:
        """Return what the model can do, and which weights it has."""
        return msgspec.json.decode(await self._post("/api/show", {"model": name}), type=Description)

    async def is_embedding(self, name: str) -> bool:
        """Return whether the model can only create embeddings."""
        capabilities = (await self.described(name)).capabilities
        return "embedding" in capabilities and "completion" not in capabilities

    async def pull(self, name: str, *, insecure: bool) -> AsyncIterator[PullProgress]:
        """Pull a model and yield the progress.

        Ollama reports errors of the registry in the stream, after status 200.
        """
        body = {"model": name, "insecure": insecure, "stream": True}
        async for progress in self._progress("/api/pull", body, "the pull"):
            yield progress

    async def create(self, name: str, fields: Mapping[str, Any]) -> AsyncIterator[PullProgress]:
        """Create a model with the fields of `POST /api/create`, and yield the progress."""
        async for progress in self._progress("/api/create", {"model": name, **fields, "stream": True}, "the creation"):
            yield progress

    async def has_blob(self, digest: str) -> bool:
        """Return whether Ollama has a blob."""
        timeout = aiohttp.ClientTimeout(total=_GET_SECONDS)
        try:
            async with self._session.head(f"/api/blobs/{digest}", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise OllamaError(f"the blob cannot be looked up: {reason_of(error)}") from error

    async def upload(self, digest: str, content: AsyncIterator[bytes]) -> None:
        """Store a blob. Ollama computes its digest again."""
        try:
            async with self._session.post(f"/api/blobs/{digest}", data=content) as response:
                if response.status >= 400:
                    raise OllamaError(_sentence(await response.read()), response.status)
        except (aiohttp.ClientError, OSError) as error:
            raise OllamaError(f"the upload was interrupted: {reason_of(error)}") from error

    async def copy(self, source: str, destination: str) -> None:
        """Copy a model to a second name."""
        await self._post("/api/copy", {"source": source, "destination": destination})

    async def delete(self, name: str) -> None:
        """Delete a model, and the blobs that no other model uses. A model that is in memory stays there."""
        await self._send("DELETE", "/api/delete", {"model": name})

    async def unload(self, name: str) -> None:
        """Remove a model from memory when its running requests have ended. Returns immediately."""
        await self._post("/api/generate", {"model": name, "keep_alive": 0, "stream": False})

    async def load(self, name: str, *, embedding: bool, seconds: float) -> None:
        """Load a model into memory without expiry, and wait at most `seconds` for one token or one embedding."""
        if embedding:
            await self._post("/api/embed", {"model": name, "input": "ready?", "keep_alive": -1}, seconds)
        else:
            body = {"model": name, "prompt": "ready?", "stream": False, "keep_alive": -1}
            await self._post("/api/generate", {**body, "options": {"num_predict": 1}}, seconds)

    async def test(self, name: str, *, embedding: bool, seconds: float) -> None:
        """Wait at most `seconds` for one token or one embedding. Raises OllamaSilentError if it does not arrive.

        Without `keep_alive`, the time at which Ollama unloads the model stays as it is. Without options, Ollama uses
        the runner that other requests without options use.
        """
        if embedding:
            await self._post("/api/embed", {"model": name, "input": "ready?"}, seconds)
        else:
            body = {"model": name, "prompt": "ready?", "raw": True, "stream": False, "options": {"num_predict": 1}}
            await self._post("/api/generate", body, seconds)

    async def cors_headers(self, origin: str) -> Headers:
        """Return the CORS headers that Ollama sends for an Origin. Empty if it does not allow the Origin."""
        timeout = aiohttp.ClientTimeout(total=_GET_SECONDS)
        try:
            async with self._session.get("/api/version", headers={"Origin": origin}, timeout=timeout) as response:
                return [
                    (name, value)
                    for name, value in response.raw_headers
                    if name.lower().startswith(b"access-control-") or name.lower() == b"vary"
                ]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise OllamaError(f"the CORS headers are unknown: {reason_of(error)}") from error

    async def _get(self, path: str, kind: type[T]) -> T:
        try:
            async with self._session.get(path, timeout=aiohttp.ClientTimeout(total=_GET_SECONDS)) as response:
                body = await response.read()
                if response.status != 200:
                    raise OllamaError(_sentence(body), response.status)
                return msgspec.json.decode(body, type=kind)
        except UNREADABLE as error:
            raise OllamaError(f"{path}: {reason_of(error)}", response.status) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            is_late = isinstance(error, TimeoutError)
            reason = f"no response within {_GET_SECONDS:g} s" if is_late else reason_of(error)
            raise OllamaError(f"{path}: {reason}") from error

    async def _progress(self, path: str, body: dict[str, Any], what: str) -> AsyncIterator[PullProgress]:
        try:
            async with self._session.post(path, json=body) as response:
                if response.status >= 400:
                    raise OllamaError(_sentence(await response.read()), response.status)
                async for line in response.content:
                    progress = msgspec.json.decode(line, type=PullProgress)
                    if progress.error:
                        raise OllamaError(progress.error, 200)
                    yield progress
        except (aiohttp.ClientError, OSError, *UNREADABLE) as error:
            raise OllamaError(f"{what} was interrupted: {reason_of(error)}") from error

    async def _post(self, path: str, body: dict[str, Any], seconds: float = 60) -> bytes:
        return await self._send("POST", path, body, seconds)

    async def _send(self, method: str, path: str, body: dict[str, Any], seconds: float = 60) -> bytes:
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(method, path, json=body, timeout=timeout) as response:
                data = await response.read()
                if response.status != 200:
                    raise OllamaError(_sentence(data), response.status)
                return data
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise OllamaError(f"{path}: {reason_of(error)}") from error
        except TimeoutError as error:
            raise OllamaSilentError(f"{path}: no response within {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise OllamaError(f"{path}: {reason_of(error)}") from error


def _sentence(body: bytes) -> str:
    """Return the message in an error body of Ollama."""
    try:
        return str(msgspec.json.decode(body, type=dict[str, Any])["error"])
    except (*UNREADABLE, KeyError):
        return body[:200].decode(errors="replace")
