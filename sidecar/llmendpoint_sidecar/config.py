"""Parses the configuration file of the sidecar (`--config`)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.process.errors import ConfigError
from llmendpoint_common.wire.decoding import UNREADABLE


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
