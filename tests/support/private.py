"""Access to private attributes, for state that tests cannot observe otherwise.

Only this module uses the names of these attributes, so that only it has to follow a rename.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from llmendpoint_common.wire.http1 import heads
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.limits import Bucket
from llmendpoint_sidecar.proxy.connection import ClientConnection
from llmendpoint_sidecar.workers import supervisor
from llmendpoint_sidecar.workers.process import WorkerProcess


def kept_header_lines() -> list[bytes]:
    """Return the header lines in the cache of the process."""
    return list(heads._known)


def labels_given(model_labels: ModelLabels) -> int:
    """Return the number of model names that became labels."""
    return len(model_labels._labels)


def unsent_bytes(connections: Iterable[ClientConnection]) -> list[int]:
    """Return the size of the send buffer of each open connection."""
    return [one._transport.get_write_buffer_size() for one in connections if one._transport is not None]


def seconds_without_workers() -> float:
    """Return the time without a worker that answers, in seconds, after which `/livez` fails."""
    return supervisor._CHECK_SECONDS * supervisor._MAX_FAILED_CHECKS


def workers_of(one: supervisor.Supervisor) -> list[WorkerProcess]:
    """Return the running workers of a supervisor."""
    return one._workers()


def accepted_sockets(connections: Iterable[ClientConnection]) -> list[socket.socket]:
    """Return the socket of each open connection."""
    return [one._transport.get_extra_info("socket") for one in connections if one._transport is not None]


def unanswered_requests(connection: ClientConnection) -> int:
    """Return the number of requests that were read and not answered."""
    return len(connection._queue)


def is_reading(admission: Admission, meter: Meter) -> bool:
    """Return whether bodies are read, or wait to be read, in turns of the event loop."""
    queue = admission.reading_queue
    return bool(queue._active or queue._waiting or meter.bodies._bodies)


def use_of_allowances(admission: Admission) -> dict[str, tuple[int, float, float]]:
    """Return running requests, charged requests and charged tokens by tenant, at the time of the last check."""
    return {
        tenant: (one.running, _spent(one._requests), _spent(one._tokens))
        for tenant, one in admission._allowances.items()
    }


def _spent(bucket: Bucket | None) -> float:
    return 0.0 if bucket is None else bucket._per_minute - bucket._level
