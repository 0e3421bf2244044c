"""Rows of `models`."""

from __future__ import annotations

from enum import StrEnum

from llmendpoint_dashboard.contract.sections import Row, Value


class ModelState(StrEnum):
    """States of a model. LOADED: in memory. AVAILABLE: on the disk. The others are phases of a declared model."""

    LOADED = "loaded"
    AVAILABLE = "available"
    PENDING = "pending"
    PULLING = "pulling"
    LOADING = "loading"
    FAILED = "failed"
    REMOTE = "remote"


class Pull(Value, frozen=True, kw_only=True):
    """A pull in progress. `seconds_left` is None if it cannot be estimated yet."""

    completed_bytes: int
    total_bytes: int
    bytes_per_second: float
    seconds_left: float | None = None


class ModelRow(Row, frozen=True, kw_only=True):
    """Row of `models`: a model of one source. The key is SOURCE/MODEL.

    `size_bytes` is the memory of a loaded model, and the size on the disk of any other one. `vram_bytes` is its part on
    the GPU, and `gpu_share` that part as a fraction; both are None if the model is not in memory. `expires` is when
    Ollama unloads it, None if it does not. `loads` and `evictions` count how often the model has come into memory and
    left it since the dashboard started. `loaded_before` is whether it was in memory already when the sidecar was first
    read, so that it has been loaded at least once more than `loads`. `message` says why a declared model is not
    available.
    """

    source: str
    name: str
    state: ModelState
    digest: str = ""
    size_bytes: int | None = None
    vram_bytes: int | None = None
    gpu_share: float | None = None
    context_length: int | None = None
    expires: float | None = None
    pull: Pull | None = None
    loads: int = 0
    loaded_before: bool = False
    evictions: int = 0
    message: str = ""
