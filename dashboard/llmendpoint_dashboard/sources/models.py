"""Rows of the table `models`, from the status and the metrics of a sidecar."""

from __future__ import annotations

from collections.abc import Iterable

from llmendpoint_common.contracts.ollama import canonical_name
from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus
from llmendpoint_dashboard.contract import ModelRow, ModelState, Pull
from llmendpoint_dashboard.sources.exposition import Gauge
from llmendpoint_dashboard.sources.sidecar import Presence, Sidecar

_PHASES = {
    ModelPhase.PENDING: ModelState.PENDING,
    ModelPhase.PULLING: ModelState.PULLING,
    ModelPhase.LOADING: ModelState.LOADING,
    ModelPhase.FAILED: ModelState.FAILED,
}
#: Ollama reports a time about 300 years ahead for a model that it never unloads.
_FOREVER_SECONDS = 100 * 365 * 86400.0


def model_rows(sidecar: Sidecar, now: float) -> Iterable[ModelRow]:
    """Yield a row for each model that the sidecar declares or that its Ollama has. `now` is the Unix time."""
    page, status = sidecar.page, sidecar.status
    declared = {canonical_name(model.name): model for model in (status.models if status is not None else ())}
    for name in sorted({*declared, *page.gauge(Gauge.LOADED)}):
        yield _row(sidecar, name, declared.get(name), now)


def _row(sidecar: Sidecar, name: str, declared: ModelStatus | None, now: float) -> ModelRow:
    page, source = sidecar.page, sidecar.address.name
    is_loaded = page.gauge(Gauge.LOADED).get(name, 0.0) > 0 or (declared is not None and declared.loaded)
    is_remote = page.gauge(Gauge.REMOTE).get(name, 0.0) > 0
    size, vram = _memory(sidecar, name, declared) if is_loaded else (None, None)
    expires = page.gauge(Gauge.EXPIRES).get(name)
    context = page.gauge(Gauge.CONTEXT).get(name)
    presence = sidecar.presences.get(name) or Presence()
    on_disk = declared.size_bytes if declared is not None else 0
    return ModelRow(
        key=f"{source}/{name}",
        source=source,
        name=name,
        state=_state(declared, is_loaded=is_loaded, is_remote=is_remote),
        digest=declared.digest if declared is not None else "",
        size_bytes=size if is_loaded else on_disk or None,
        vram_bytes=vram,
        gpu_share=None if not size or vram is None else round(min(1.0, vram / size), 4),
        context_length=int(context) if context else None,
        expires=expires if expires and 0 < expires < now + _FOREVER_SECONDS else None,
        pull=_pull(declared),
        loads=presence.loads,
        loaded_before=presence.loaded_before,
        evictions=presence.evictions,
        message=_message(declared),
    )


def _memory(sidecar: Sidecar, name: str, declared: ModelStatus | None) -> tuple[int | None, int | None]:
    """Return the memory of a loaded model in bytes: all of it, and the part on the GPU."""
    size, vram = sidecar.page.gauge(Gauge.SIZE).get(name), sidecar.page.gauge(Gauge.VRAM).get(name)
    if size is not None:
        return int(size), None if vram is None else int(vram)
    # A model that shares the memory of another one is only listed under the name of that one.
    return (declared.loaded_bytes, declared.vram_bytes) if declared is not None else (None, None)


def _state(declared: ModelStatus | None, *, is_loaded: bool, is_remote: bool) -> ModelState:
    if declared is not None and declared.phase is ModelPhase.FAILED:
        return ModelState.FAILED
    if is_loaded:
        return ModelState.LOADED
    if declared is not None and declared.phase in _PHASES:
        return _PHASES[declared.phase]
    return ModelState.REMOTE if is_remote else ModelState.AVAILABLE


def _pull(declared: ModelStatus | None) -> Pull | None:
    if declared is None or declared.phase is not ModelPhase.PULLING or not declared.pull_bytes:
        return None
    return Pull(
        completed_bytes=declared.pulled_bytes,
        total_bytes=declared.pull_bytes,
        bytes_per_second=declared.bytes_per_second,
        seconds_left=declared.remaining_seconds or None,
    )


def _message(declared: ModelStatus | None) -> str:
    if declared is None or not declared.message:
        return ""
    return f"{declared.reason}: {declared.message}" if declared.reason else declared.message
