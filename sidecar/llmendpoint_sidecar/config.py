"""Parses the configuration file of the sidecar (`--config`), and reloads it when it changes.

Each process polls the file. Without workers, the process configures admission and the model agent at the same moment.
With workers, the supervisor configures the model agent, and each worker its own admission, so they reload within one
poll interval of each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.process.errors import ConfigError
from llmendpoint_common.wire.decoding import UNREADABLE

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0


def read_config(path: Path) -> SidecarConfig:
    """Return the configuration in a file. Raises ConfigError if the file cannot be read or is invalid."""
    try:
        return parse_config(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UNREADABLE as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(data: bytes) -> SidecarConfig:
    """Return the configuration in a JSON document. Raises one of UNREADABLE if the document is invalid."""
    return msgspec.json.decode(data, type=SidecarConfig, strict=True)


async def watch_config(
    path: Path | None,
    current: SidecarConfig,
    apply: Callable[[SidecarConfig], None],
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Poll a file and call `apply` once for each new configuration in it. Returns immediately if `path` is None.

    `current` is the configuration in use. If the file is invalid or missing, the last valid configuration stays in use.
    """
    if path is None:
        return
    seen: bytes | None = None
    while True:
        content = await asyncio.to_thread(_content, path)
        if content is not None and content != seen:
            seen = content
            current = _reload(path, content, current, apply)
        await asyncio.sleep(poll_seconds)


def _reload(
    path: Path, content: bytes, current: SidecarConfig, apply: Callable[[SidecarConfig], None]
) -> SidecarConfig:
    """Apply the configuration in `content` if it differs from `current`. Return the configuration in use afterwards."""
    try:
        config = parse_config(content)
    except UNREADABLE as error:
        log.error("%s is invalid; the previous configuration stays in use: %s", path, error)
        return current
    if config != current:
        apply(config)
        log.info("reloaded %s", path)
    return config


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
