"""The sidecar's configuration file: read, checked, and watched, so that a change needs no restart."""

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

_INTERVAL_SECONDS = 2.0


def read_config(path: Path) -> SidecarConfig:
    """Return the file's settings; a field that is not known is an error."""
    try:
        return parse_config(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UNREADABLE as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(data: bytes) -> SidecarConfig:
    """Return the settings of a JSON document."""
    return msgspec.json.decode(data, type=SidecarConfig, strict=True)


async def watch_config(path: Path, apply: Callable[[SidecarConfig], None]) -> None:
    """Call `apply` whenever the file has new, valid content; an invalid file is logged and the old one stays."""
    seen = await asyncio.to_thread(_content, path)
    while True:
        await asyncio.sleep(_INTERVAL_SECONDS)
        content = await asyncio.to_thread(_content, path)
        if content == seen or content is None:
            continue
        seen = content
        try:
            apply(parse_config(content))
            log.info("took the new %s", path)
        except UNREADABLE as error:
            log.error("%s stays unused: %s", path, error)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
