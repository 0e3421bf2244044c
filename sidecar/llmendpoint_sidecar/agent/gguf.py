"""Reads a GGUF file from a volume, and uploads it to Ollama as a blob.

The file is read in pieces in a thread, because a network volume can be slow. It is hashed first, since Ollama needs the
digest before the content, and only uploaded if Ollama does not have the blob.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from llmendpoint_common.contracts.sidecar import Gguf, ModelReason
from llmendpoint_common.process.errors import ModelError
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_sidecar.agent.memory import Memory, ReadFile
from llmendpoint_sidecar.agent.progress import size_text
from llmendpoint_sidecar.ollama.client import Ollama

#: Small enough that other requests do not wait for the event loop.
_PIECE_BYTES = 1 << 20

#: Reports a step to users: a message, and the progress in percent.
Step = Callable[[str, int], None]


class GgufFiles:
    """The GGUF files of the declared models. A file that has not changed is hashed once."""

    def __init__(self, ollama: Ollama, memory: Memory) -> None:
        self._ollama = ollama
        self._memory = memory

    async def has_changed(self, gguf: Gguf) -> bool:
        """Return whether a file differs from what was read last. A file that cannot be read now has not changed."""
        try:
            size, changed = await asyncio.to_thread(_state_of, gguf)
        except OSError:
            return False
        known = self._memory.file(gguf.path)
        return known is None or (known.size, known.changed_ns) != (size, changed)

    async def upload(self, gguf: Gguf, step: Step) -> str:
        """Return the digest of a file whose content Ollama has as a blob. Raises ModelError or OllamaError."""
        try:
            size, changed = await asyncio.to_thread(_state_of, gguf)
            known = self._memory.file(gguf.path)
            if known is not None and (known.size, known.changed_ns) == (size, changed):
                digest = known.digest
            else:
                digest = await self._hash(gguf, size, step)
                self._memory.note_file(gguf.path, ReadFile(size, changed, digest))
            if not await self._ollama.has_blob(digest):
                await self._ollama.upload(digest, self._content(gguf, size, step))
        except OSError as error:
            raise ModelError(
                ModelReason.FILE_NOT_READABLE,
                f"{gguf.path} cannot be read: {error.strerror or reason_of(error)}. {_advice(gguf)}",
            ) from error
        return digest

    async def _hash(self, gguf: Gguf, size: int, step: Step) -> str:
        seen = hashlib.sha256()
        done = 0
        async for piece in _pieces(gguf):
            await asyncio.to_thread(seen.update, piece)
            done += len(piece)
            step(f"read {size_text(done)} of {size_text(size)}", min(49, 50 * done // max(1, size)))
        return f"sha256:{seen.hexdigest()}"

    async def _content(self, gguf: Gguf, size: int, step: Step) -> AsyncIterator[bytes]:
        done = 0
        async for piece in _pieces(gguf):
            yield piece
            done += len(piece)
            step(f"copied {size_text(done)} of {size_text(size)}", 50 + min(49, 50 * done // max(1, size)))


def _advice(gguf: Gguf) -> str:
    """Return what users can do about a file that cannot be read. Only a pod reads files below another folder."""
    if gguf.root:
        return "Check source.gguf.path, and the volume that pod.ollamaVolumeMounts mounts there."
    return (
        "source.gguf.path is a path on the machine of the proxy: correct it, or put the file there, and let the user "
        "of the proxy read it."
    )


def _state_of(gguf: Gguf) -> tuple[int, int]:
    found = Path(gguf.file).stat()
    return found.st_size, found.st_mtime_ns


async def _pieces(gguf: Gguf) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(Path(gguf.file).open, "rb", 0) as file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
