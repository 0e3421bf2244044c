"""Replaces a manifest of Ollama in one step, so that no request sees half of it.

`POST /api/copy` of Ollama 0.17.4 empties the manifest of the destination before it writes the new one (`CopyModel`,
server/images.go). A request in between fails. If the sidecar has the folder of the models, it renames a complete file
over the old one instead. It does so only if both files are where it expects them, and have the content that Ollama
lists; otherwise the caller asks Ollama for a copy.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from llmendpoint_common.contracts.ollama import canonical_name, parse_name
from llmendpoint_common.process.reasons import reason_of

log = logging.getLogger(__name__)


class Manifests:
    """The manifests in a folder of models. `state_folder` is directly below that folder, or None if it is not known."""

    def __init__(self, state_folder: Path | None) -> None:
        self._state_folder = state_folder

    def replace(self, source: str, destination: str, digest: str) -> bool:
        """Make the manifest of `source`, which has this digest, that of `destination` too. Return whether it was done.

        It blocks, so a running event loop calls it in a thread.
        """
        state = self._state_folder
        if state is None:
            return False
        old, new = _path(state.parent, destination), _path(state.parent, source)
        try:
            content = new.read_bytes()
            if not old.is_file() or hashlib.sha256(content).hexdigest() != digest.removeprefix("sha256:"):
                return False
            state.mkdir(exist_ok=True)
            temporary = state / "manifest"
            temporary.write_bytes(content)
            temporary.replace(old)
        except OSError as error:
            log.info(
                "Ollama replaces the manifest of %s, because the sidecar cannot: %s", destination, reason_of(error)
            )
            return False
        return True


def _path(models: Path, name: str) -> Path:
    return models.joinpath("manifests", *parse_name(canonical_name(name)))
