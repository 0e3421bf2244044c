"""How the simulated server behaves; changed while it runs by `PUT /simulator/behaviour`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Fault(StrEnum):
    """What goes wrong with an answer."""

    NONE = "none"
    STATUS_500 = "status_500"
    STREAM_ERROR = "stream_error"
    TRUNCATE = "truncate"
    RESET = "reset"
    NO_DONE = "no_done"


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in seconds. A request that asks for fewer tokens (`num_predict`, `max_tokens`) gets fewer.

    `parallel` requests a model run at once; more wait, up to `max_queue`, beyond which they get 503.
    A `fault` strikes after `fault_after` pieces.
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
    """Return the behaviour with the fields of a JSON object replaced; msgspec.MsgspecError names a wrong field."""
    merged = msgspec.to_builtins(behaviour) | msgspec.json.decode(changes, type=dict)
    return msgspec.convert(merged, Behaviour)
