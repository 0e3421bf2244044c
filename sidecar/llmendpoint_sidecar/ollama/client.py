"""The few calls of Ollama's API that the agent makes (api/types.go of Ollama)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import aiohttp
import msgspec

from llmendpoint_common.process.errors import OllamaError
from llmendpoint_common.wire.decoding import UNREADABLE

T = TypeVar("T")


class ListedModel(msgspec.Struct, frozen=True):
    """One model of /api/tags; `size` in bytes; `remote_host` where it runs elsewhere (`:cloud` models)."""

    name: str
    digest: str = ""
    size: int = 0
    remote_host: str = ""


class LoadedModel(msgspec.Struct, frozen=True):
    """One model of /api/ps: bytes in all and in GPU memory, and when it will be unloaded (RFC 3339)."""

    name: str
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


class _Show(msgspec.Struct):
    capabilities: list[str] = []


class PullProgress(msgspec.Struct):
    """One line of a pull: bytes of the layer in hand."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


class Ollama:
    """A client of one Ollama server; close it with `await close()`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        """Connections, from the first call on: a process that does not come up has none to close."""
        if self._opened is None:
            self._opened = aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(total=None, sock_connect=5))
        return self._opened

    async def version(self) -> str:
        """Return the server's version."""
        return (await self._get("/api/version", _Version)).version

    async def listed(self) -> list[ListedModel]:
        """Return the models that are present."""
        return (await self._get("/api/tags", _Listed)).models

    async def loaded(self) -> list[LoadedModel]:
        """Return the models in memory."""
        return (await self._get("/api/ps", _Loaded)).models

    async def is_embedding(self, name: str) -> bool:
        """Tell whether the model embeds and does not complete."""
        capabilities = msgspec.json.decode(await self._post("/api/show", {"model": name}), type=_Show).capabilities
        return "embedding" in capabilities and "completion" not in capabilities

    async def pull(self, name: str, *, insecure: bool) -> AsyncIterator[PullProgress]:
        """Pull a model; yields progress, and raises OllamaError with the registry's words, which come in the stream."""
        body = {"model": name, "insecure": insecure, "stream": True}
        try:
            async with self._session.post("/api/pull", json=body) as response:
                if response.status >= 400:
                    raise OllamaError(_sentence(await response.read()), response.status)
                async for line in response.content:
                    progress = msgspec.json.decode(line, type=PullProgress)
                    if progress.error:
                        raise OllamaError(progress.error, 200)
                    yield progress
        except (aiohttp.ClientError, OSError, *UNREADABLE) as error:
            raise OllamaError(f"the pull was cut: {error}") from error

    async def copy(self, source: str, destination: str) -> None:
        """Give a present model a second name."""
        await self._post("/api/copy", {"source": source, "destination": destination})

    async def answer(self, name: str, *, embedding: bool, seconds: float) -> None:
        """Bring a model into memory to stay, and have it answer: one token, or one embedding."""
        if embedding:
            await self._post("/api/embed", {"model": name, "input": "ready?", "keep_alive": -1}, seconds)
        else:
            body = {"model": name, "prompt": "ready?", "stream": False, "keep_alive": -1}
            await self._post("/api/generate", {**body, "options": {"num_predict": 1}}, seconds)

    async def _get(self, path: str, kind: type[T]) -> T:
        try:
            async with self._session.get(path, timeout=aiohttp.ClientTimeout(total=5)) as response:
                body = await response.read()
                if response.status != 200:
                    raise OllamaError(_sentence(body), response.status)
                return msgspec.json.decode(body, type=kind)
        except (aiohttp.ClientError, OSError, TimeoutError, *UNREADABLE) as error:
            raise OllamaError(f"{path}: {str(error) or 'no answer in 5 s'}") from error

    async def _post(self, path: str, body: dict[str, Any], seconds: float = 60) -> bytes:
        try:
            async with self._session.post(path, json=body, timeout=aiohttp.ClientTimeout(total=seconds)) as response:
                data = await response.read()
                if response.status != 200:
                    raise OllamaError(_sentence(data), response.status)
                return data
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise OllamaError(f"{path}: {str(error) or f'no answer in {seconds:g} s'}") from error


def _sentence(body: bytes) -> str:
    """Return Ollama's own words from an error body."""
    try:
        return str(msgspec.json.decode(body, type=dict[str, Any])["error"])
    except (*UNREADABLE, KeyError):
        return body[:200].decode(errors="replace")
