"""Faults that can be injected, and the rules that select the requests that get them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec

from llmendpoint_simulator.latency import Seconds, Share

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Status: TypeAlias = Annotated[int, msgspec.Meta(ge=400, le=599)]


class Fault(StrEnum):
    """Faults. Those of a stream occur after a number of chunks with content.

    - STATUS_500, and STATUS with the status of its rule: an error response instead of an answer.
    - QUEUE_FULL: 503 with the sentence of Ollama's full queue.
    - LOAD_FAILURE: 500, if the model has to be loaded.
    - STREAM_ERROR: an error in the stream, in the form of the API. Ollama ends some APIs' streams silently.
    - TRUNCATE and NO_DONE end a stream early, with and without closing the connection.
    - RESET: a TCP reset.
    - STALL: silence for the seconds of its rule, after which the answer continues.
    - HANG: no model sends a byte, as if its runner was stopped, until the fault changes. Streams that have begun stop
      too. All other routes answer. In a rule, only the request that gets it hangs, until its client leaves.
    - MANIFEST_MISSING, NO_LOCATION, DISK_FULL and DIGEST_MISMATCH: a pull fails inside its stream.
    """

    NONE = "none"
    STATUS_500 = "status_500"
    STATUS = "status"
    QUEUE_FULL = "queue_full"
    LOAD_FAILURE = "load_failure"
    STREAM_ERROR = "stream_error"
    TRUNCATE = "truncate"
    RESET = "reset"
    NO_DONE = "no_done"
    STALL = "stall"
    HANG = "hang"
    MANIFEST_MISSING = "manifest_missing"
    NO_LOCATION = "no_location"
    DISK_FULL = "disk_full"
    DIGEST_MISMATCH = "digest_mismatch"


#: Faults of a pull.
PULL_FAULTS = frozenset(
    {Fault.MANIFEST_MISSING, Fault.NO_LOCATION, Fault.DISK_FULL, Fault.DIGEST_MISMATCH, Fault.STALL}
)
_PULL_ONLY = PULL_FAULTS - {Fault.STALL}
_PULL = "/api/pull"
#: Faults instead of an answer, which every route can have.
ANSWER_FAULTS = frozenset({Fault.STATUS_500, Fault.STATUS, Fault.QUEUE_FULL, Fault.RESET, Fault.STALL, Fault.HANG})
#: Faults of requests that run a model and answer with one object, such as embeddings.
WHOLE_FAULTS = ANSWER_FAULTS | {Fault.LOAD_FAILURE}
#: Faults of requests that generate text.
TEXT_FAULTS = WHOLE_FAULTS | {Fault.STREAM_ERROR, Fault.TRUNCATE, Fault.NO_DONE}


class FaultRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault for some of the requests. The first rule that applies to a request is used.

    - `model`, `route` and `key` limit the rule to requests for a model, to a path such as `/api/chat`, and to requests
      with an API key (`Authorization: Bearer KEY`, or `x-api-key`). Without a route, the rule applies to requests that
      run a model, or for the faults of a pull, to pulls.
    - `probability` is the share of the matching requests that get the fault, and `count` the number of them that do.
    - `after` is the number of chunks before a fault of a stream; without it, that of `fault_after` is used.
    - `status` and `message` belong to STATUS, and `seconds` to STALL.
    """

    fault: Fault
    probability: Share = 1.0
    count: _Count | None = None
    model: str = ""
    route: str = ""
    key: str = ""
    after: _Count | None = None
    status: _Status = 500
    message: str = "simulated failure"
    seconds: Seconds = 1.0

    def __post_init__(self) -> None:
        """Refuse a rule that can never apply. Raises ValueError, from which msgspec makes a ValidationError."""
        if self.fault is Fault.NONE:
            raise ValueError("a rule needs a `fault` other than `none`")
        if self.route and not self.route.startswith("/"):
            raise ValueError("`route` is a path, such as /api/chat")
        if self.fault in _PULL_ONLY and self.route not in ("", _PULL):
            raise ValueError(f"`{self.fault}` is a fault of pulls; leave `route` out")
