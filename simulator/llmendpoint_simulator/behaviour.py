"""Behaviour of the simulator: timings, sizes, faults and models. `PUT /simulator/behaviour` changes it at run time."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Fault(StrEnum):
    """Fault of an answer. TRUNCATE and NO_DONE end a stream early, with and without closing the connection."""

    NONE = "none"
    STATUS_500 = "status_500"
    STREAM_ERROR = "stream_error"
    TRUNCATE = "truncate"
    RESET = "reset"
    NO_DONE = "no_done"


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Timings in seconds, sizes in tokens, and models by name.

    A request gets `tokens` tokens, or fewer if it asks for fewer (`num_predict`, `max_tokens`). For each model,
    `parallel` requests run at the same time and up to `max_queue` wait; further ones are answered with 503. A `fault`
    occurs after `fault_after` pieces. `models` are present, `registry` can be pulled.
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
    embedding_models: tuple[str, ...] = ()


def change(behaviour: Behaviour, changes: bytes) -> Behaviour:
    """Return a behaviour with the fields of a JSON object replaced. msgspec.MsgspecError names an invalid field."""
    merged = msgspec.to_builtins(behaviour) | msgspec.json.decode(changes, type=dict)
    return msgspec.convert(merged, Behaviour)
