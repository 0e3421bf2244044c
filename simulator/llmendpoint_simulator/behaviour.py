"""Behaviour of the simulator: timings, sizes, faults and models. It can be changed with `PUT /simulator/behaviour`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum

import msgspec

_HANG_POLL_SECONDS = 0.02


class Fault(StrEnum):
    """Faults that can be injected. TRUNCATE and NO_DONE end a stream early, with and without closing the connection.

    With HANG, no model sends a byte, as if its runner was stopped, until the fault changes. Streams that have begun
    stop too. All other routes answer.
    """

    NONE = "none"
    STATUS_500 = "status_500"
    STREAM_ERROR = "stream_error"
    TRUNCATE = "truncate"
    RESET = "reset"
    NO_DONE = "no_done"
    HANG = "hang"


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Timings in seconds, sizes in tokens, and models by name.

    A response has `tokens` tokens, or fewer if the request limits them (`num_predict`, `max_tokens`). A tool call and
    an answer in a requested format have one token for every four characters of their JSON instead. For each model,
    `parallel` requests run at the same time and up to `max_queue` wait. Further requests get 503. A `fault` in a stream
    occurs after `fault_after` chunks with content. `models` are present, and those in `registry` can be pulled. A
    model with another text in `revisions` has another content in the registry, and another digest.

    Only the known-latency mode reads the rest. `capacity` is the number of requests per second that the server turns
    to, in the order of arrival; 0 is no limit. `ttft_cv` is the coefficient of variation of the time to first token,
    which has a gamma distribution then, and `seed` the seed of these times.
    """

    ttft: float = 0.2
    inter_token: float = 0.02
    tokens: int = 50
    tokens_per_chunk: int = 1
    parallel: int = 4
    max_queue: int = 512
    load: float = 0.0
    pull: float = 0.0
    fault: Fault = Fault.NONE
    fault_after: int = 3
    models: tuple[str, ...] = ("simulated:latest",)
    registry: tuple[str, ...] = ()
    revisions: dict[str, str] = {}
    embedding_models: tuple[str, ...] = ()
    capacity: float = 0.0
    ttft_cv: float = 0.0
    seed: int = 0


async def until_running(behaviour: Callable[[], Behaviour]) -> None:
    """Wait while the fault is HANG."""
    while behaviour().fault is Fault.HANG:  # noqa: ASYNC110 - the behaviour is replaced in many ways
        await asyncio.sleep(_HANG_POLL_SECONDS)


def change(behaviour: Behaviour, changes: bytes) -> Behaviour:
    """Return the behaviour with the fields in a JSON object replaced.

    Raises msgspec.MsgspecError, which names the invalid field.
    """
    merged = msgspec.to_builtins(behaviour) | msgspec.json.decode(changes, type=dict)
    return msgspec.convert(merged, Behaviour)
