"""Behaviour of the simulator: timings, sizes, faults and models. It can be changed with `PUT /simulator/behaviour`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from llmendpoint_common.process.errors import InputError
from llmendpoint_simulator.faults import Fault, FaultRule
from llmendpoint_simulator.latency import Latency, Seconds, Share

_HANG_POLL_SECONDS = 0.02
_AtLeastOne: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_NotNegative: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Factor: TypeAlias = Annotated[float, msgspec.Meta(ge=1)]


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Timings in seconds, sizes in tokens and bytes, and models by name. docs/simulator.md explains each field.

    A latency is a number or a distribution (`latency.py`).

    - Time: `ttft`, plus `prompt_token` for each token of the prompt, is the time to first token. `inter_token` is the
      time between two tokens; a distribution is drawn once for each request. `jitter` makes each of these times up to
      this share shorter or longer. `load_factor` multiplies both if all slots run, and less with fewer requests.
      `load` is the time to load a model, and `embed` that of an embedding.
    - Size: a response has `tokens` tokens, or fewer if the request limits them (`num_predict`, `max_tokens`). A tool
      call and an answer in a requested format have one token for every four characters of their JSON instead. A chunk
      has `tokens_per_chunk`. `cached_share` is the share of the prompt that is reported as cached.
    - Queue: for each model, `parallel` requests run at the same time and up to `max_queue` wait. Further requests get
      503.
    - Models: `models` are present, those in `registry` can be pulled, and a model with another text in `revisions` has
      another content in the registry. `embedding_models` and `image_models` are present too. `sizes` are their bytes
      (1 MB by default). `memory` is the size of the GPU's memory; without it, everything fits. A model stays in memory
      for `keep_alive` seconds after its last request, or forever if negative. `cpu_factor` multiplies the times of a
      model that is entirely on the CPU.
    - Pull: it takes `pull` seconds, or as long as `pull_speed` bytes per second need. The model has `layers` layers.
      `verify` is the silence after the download.
    - Faults: a `fault` for all requests, and `faults` for some of them. In a stream, a fault occurs after `fault_after`
      chunks with content. `seed` is the seed of all random values.

    Only the known-latency mode reads the rest. `capacity` is the number of requests per second that the server turns
    to, in the order of arrival; 0 is no limit. `ttft_cv` is the coefficient of variation of the time to first token,
    which has a gamma distribution then.
    """

    ttft: Latency = 0.2
    prompt_token: Seconds = 0.0
    inter_token: Latency = 0.02
    jitter: Share = 0.0
    load_factor: _Factor = 1.0
    load: Latency = 0.0
    embed: Latency = 0.0
    tokens: _AtLeastOne = 50
    tokens_per_chunk: _AtLeastOne = 1
    cached_share: Share = 0.0
    parallel: _AtLeastOne = 4
    max_queue: _NotNegative = 512
    models: tuple[str, ...] = ("simulated:latest",)
    embedding_models: tuple[str, ...] = ()
    image_models: tuple[str, ...] = ()
    registry: tuple[str, ...] = ()
    revisions: dict[str, str] = {}
    sizes: dict[str, _NotNegative] = {}
    memory: _NotNegative | None = None
    keep_alive: float = 300.0
    cpu_factor: _Factor = 1.0
    pull: Seconds = 0.0
    pull_speed: Seconds = 0.0
    layers: _AtLeastOne = 1
    verify: Seconds = 0.0
    fault: Fault = Fault.NONE
    fault_after: _NotNegative = 3
    faults: tuple[FaultRule, ...] = ()
    capacity: Seconds = 0.0
    ttft_cv: Seconds = 0.0
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


def checked(behaviour: Behaviour) -> Behaviour:
    """Return a behaviour without known latency. Raises ValueError if it has a field that only the other mode reads."""
    if behaviour.capacity or behaviour.ttft_cv:
        raise ValueError("capacity and ttft_cv need a simulator with --known-latency")
    return behaviour


def read_changes(path: Path) -> dict[str, object]:
    """Return the fields of a behaviour in a JSON file. Raises InputError, which names the file and the field."""
    try:
        changes: dict[str, object] = msgspec.json.decode(path.read_bytes(), type=dict)
        msgspec.convert(changes, Behaviour)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise InputError(f"{path} is not a behaviour: {error}") from None
    return changes
