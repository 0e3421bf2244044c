"""Whether a kind can be watched in a scope, and why not.

A refusal of the API server may be temporary: while it starts, it refuses requests that it will allow when it has read
its roles. A kind counts as lost when it was refused for some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.process.backoff import Backoff
from llmendpoint_operator.cluster.client import ApiServer
from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.faults import describe, is_unknown_kind, read_refusal
from llmendpoint_operator.cluster.kinds import Kind
from llmendpoint_operator.watching.feed import Feed

#: The API server does not answer, or answers with an error that will pass.
_FIRST_SECONDS, _LAST_SECONDS = 0.5, 10.0
#: The API server refuses: somebody has to give a permission or to install a CustomResourceDefinition.
_LOST_FIRST_SECONDS, _LOST_LAST_SECONDS = 1.0, 60.0
# With these delays, the third refusal in a row is always later than this, and the second one never. So kinds that are
# refused together are lost at about the same time, and reported together (scope.py).
_REFUSED_SECONDS = 2.0


@dataclass(frozen=True)
class Access:
    """The API server, and the kinds that it does not have."""

    server: ApiServer
    discovery: Discovery


class KindAccess:
    """The state of one kind in one scope: can be watched, fails at present, or is lost."""

    def __init__(
        self,
        kind: Kind,
        feed: Feed,
        discovery: Discovery,
        changed: Callable[[KindAccess], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self._feed = feed
        self._discovery = discovery
        self._changed = changed
        self._clock = clock
        self._failing = Backoff(_FIRST_SECONDS, _LAST_SECONDS)
        self._refused = Backoff(_LOST_FIRST_SECONDS, _LOST_LAST_SECONDS)
        self._refused_since: float | None = None
        self._failing_since: float | None = None
        #: When the kind was found after the cluster had lacked it.
        self.found_at: float | None = None
        self.is_lost = False
        #: The last error.
        self.trouble = ""
        #: Whether the last error was that the cluster does not have the kind.
        self.is_missing = False

    def works(self) -> None:
        """Record that the kind was listed. The feed ends the listing."""
        self._failing.reset()
        self._refused.reset()
        self._refused_since = None
        if self.is_missing:
            self.found_at = self._clock()
        was_lost, self.is_lost, self.is_missing = self.is_lost, False, False
        self._failing_since = None
        self._discovery.found(self.kind.name)
        self._feed.end(self.kind)
        if was_lost:
            self._changed(self)

    @property
    def failing_seconds(self) -> float:
        """For how long the API server has not answered, or has answered with errors that should pass."""
        return 0.0 if self._failing_since is None else self._clock() - self._failing_since

    def answers(self) -> None:
        """Record that the API server accepted a watch."""
        self._failing.reset()
        self._failing_since = None

    def reset(self) -> None:
        """Make the next delays short: something has changed."""
        self._failing.reset()
        self._refused.reset()

    def fails(self, error: Exception) -> float:
        """Record an error, and return the number of seconds until the next attempt."""
        self.trouble = describe(error)
        if not is_refusal(error):
            if self._failing_since is None:
                self._failing_since = self._clock()
            at_least = read_refusal(error).retry_after if isinstance(error, ApiException) else None
            return self._failing.next(at_least or 0.0)
        if self._refused_since is None:
            self._refused_since = self._clock()
        self.is_missing = is_unknown_kind(error)
        if self.is_missing or self._clock() - self._refused_since >= _REFUSED_SECONDS:
            self._lose()
        return self._refused.next()

    def _lose(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        if self.is_missing:
            self._discovery.not_found(self.kind.name)
        self._feed.lose(self.kind, "" if self.is_missing else self.trouble)
        self._changed(self)


def is_refusal(error: Exception) -> bool:
    """Return whether the API server refused a request because of permissions, or because a kind is missing."""
    return isinstance(error, ApiException) and error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
