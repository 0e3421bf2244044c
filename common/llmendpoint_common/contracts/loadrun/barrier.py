"""The common start of the load pods of one run: what the operator sends to each pod, and what a pod answers.

A pod of a run with several pods prepares everything, and then waits. When all pods wait, the operator sends a
StartOrder to each of them, on the port of `/status`. The order has a remaining time and no time of day, so the clocks
of the nodes do not matter: the pods start together within the difference of the transit times, some milliseconds in
one cluster. The operator repeats an order whose answer took long; the last order counts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

START_PATH = "/start"
#: Upper bound of the time until the start, in seconds.
MAX_START_SECONDS = 60.0


class StartState(StrEnum):
    """Where a load pod is before its load. A run with one pod does not wait, so its state is `started`."""

    PREPARING = "preparing"
    READY = "ready"
    ORDERED = "ordered"
    STARTED = "started"


class StartOrder(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The order to start the load in some seconds.

    `pod` is the ConfigMap that receives the pod's result, as NAMESPACE/NAME. A pod refuses the order of another pod,
    because the address of a pod that has ended may belong to another one by now.
    """

    pod: Annotated[str, Meta(min_length=1, max_length=512)]
    in_seconds: Annotated[float, Meta(ge=0, le=MAX_START_SECONDS)]
