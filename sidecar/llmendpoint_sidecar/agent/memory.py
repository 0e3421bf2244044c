"""What the agent remembers across restarts: how it made each model, and which files it has read.

Ollama cannot say from which Modelfile or file a model was created. Without this memory, the agent would create such
models again after every restart, which needs their base model, perhaps from a registry that cannot be reached, or reads
a large file. The memory is a JSON file beside the models, so it lasts as long as they do. Without a folder, or if the
file cannot be used, it lasts as long as the process.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import DeclaredModel
from llmendpoint_common.process.files import replace_file
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.wire.decoding import UNREADABLE

log = logging.getLogger(__name__)

_FILE = "agent.json"


class Made(msgspec.Struct, frozen=True):
    """How a model was made: a hash of its declaration, and the digest that it had then."""

    definition: str
    digest: str


class ReadFile(msgspec.Struct, frozen=True):
    """The digest of a file's content, and what tells whether it is still the same: size and time of change."""

    size: int
    changed_ns: int
    digest: str


class _Content(msgspec.Struct):
    models: dict[str, Made] = {}
    files: dict[str, ReadFile] = {}
    preloaded: list[str] = []


class Memory:
    """The memory of one agent. Every change is written immediately, in place of the old file."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._path = None if folder is None else folder / _FILE
        self._content = self._read()

    def made(self, name: str) -> Made | None:
        """Return how the model with this name was made, or None if it is not known."""
        return self._content.models.get(model_key(name))

    def note_made(self, name: str, made: Made) -> None:
        """Remember how a model was made."""
        if self.made(name) != made:
            self._content.models[model_key(name)] = made
            self._write()

    def file(self, path: str) -> ReadFile | None:
        """Return what is known about a file."""
        return self._content.files.get(path)

    def note_file(self, path: str, file: ReadFile) -> None:
        """Remember the digest of a file."""
        self._content.files[path] = file
        self._write()

    @property
    def preloaded(self) -> tuple[str, ...]:
        """The names of the models that the agent loaded into memory without expiry."""
        return tuple(self._content.preloaded)

    def note_preloaded(self, names: Iterable[str]) -> None:
        """Remember which models are in memory without expiry."""
        wanted = sorted(names)
        if wanted != self._content.preloaded:
            self._content.preloaded = wanted
            self._write()

    def forget(self, name: str) -> None:
        """Forget a model that was deleted."""
        if self._content.models.pop(model_key(name), None) is not None:
            self._write()

    def _read(self) -> _Content:
        if self._path is None:
            return _Content()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return _Content()
        except (OSError, *UNREADABLE) as error:
            log.warning("%s cannot be used, so models may be created again: %s", self._path, reason_of(error))
            return _Content()

    def _write(self) -> None:
        if self._path is None:
            return
        # Several pods can share the folder, so each writes a file of its own before it replaces the common one.
        part = self._path.with_name(f"{_FILE}.{os.uname().nodename}.{os.getpid()}")
        try:
            self._path.parent.mkdir(exist_ok=True)
            content = msgspec.json.format(msgspec.json.encode(self._content), indent=1)
            replace_file(self._path, content, part=part, is_durable=False)
        except OSError as error:
            log.warning(
                "%s cannot be written, so models may be created again after a restart: %s", self._path, reason_of(error)
            )


def definition_of(model: DeclaredModel, base_digest: str) -> str:
    """Return a hash of what a model is made from. `base_digest` is that of its base if the base is declared as well."""
    parts = (model.registry, model.gguf.path if model.gguf else None, model.modelfile, base_digest)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
