"""Leader election: reads and writes the Leases of this process, and says to which namespaces it may write.

Each scope has an election (`election.py`) and a task that carries out its actions. A request is given up after 4 s, so
that a renewal can be tried again before the Lease expires.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LEASE_NAME
from llmendpoint_operator.cluster.client import API_ERRORS, ApiServer
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.leadership.claims import (
    Candidate,
    Claim,
    Reach,
    give_back,
    read_claim,
    take_over,
    write_claim,
)
from llmendpoint_operator.leadership.election import Election, Look, Standing, TakeOver, Wait, Write

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 4.0
_GIVE_BACK_SECONDS = 3.0
#: Longest random time until an announcement is made again that was made at the same time as another one.
_JITTER_SECONDS = 5.0
_LEASE = KINDS["Lease"]


def monotonic() -> float:
    """Return the seconds of a clock that is never set, and that does not stop while the machine is suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Elector:
    """Takes part in the election for one scope. `now` is the wall clock. `changed` is called after each step."""

    def __init__(
        self, server: ApiServer, me: Candidate, now: Callable[[], datetime], changed: Callable[[], None]
    ) -> None:
        self.me = me
        self.election = Election(me, lambda: random.uniform(0, _JITTER_SECONDS))  # noqa: S311 - not for secrets
        #: The last error of a request, empty if the last one succeeded.
        self.error = ""
        #: Called with the version of our Lease that a request has returned.
        self.on_version: Callable[[int], None] = lambda _: None
        self._server = server
        self._now = now
        self._changed = changed
        self._wake = asyncio.Event()
        self._closing = False

    def saw(self, claim: Claim, *, deleted: bool) -> None:
        """Process an event of the watch."""
        (self.election.deleted if deleted else self.election.saw)(claim, monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Take part until `close`."""
        while not self._closing:
            self._wake.clear()
            action = self.election.next(monotonic())
            if isinstance(action, Wait):
                self._changed()
                await _wait(self._wake, action.seconds)
            else:
                await self._do(action)
                self._changed()

    async def close(self, task: asyncio.Task[None]) -> None:
        """Stop, after the end of a request in flight, and give the Lease back."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([task], timeout=_TIMEOUT_SECONDS)
        held = self.election.give_up()
        if held is None:
            return
        try:
            async with asyncio.timeout(_GIVE_BACK_SECONDS):
                await self._put(give_back(held, self._now()))
        except API_ERRORS as error:
            log.warning("cannot give Lease %s/%s back: %s", self.me.home, LEASE_NAME, describe(error))

    async def _do(self, action: Look | Write | TakeOver) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                match action:
                    case Look():
                        await self._look()
                    case Write():
                        await self._write(action)
                    case TakeOver(last):
                        self.election.saw(_claim(await self._put(take_over(last, self._now()))), monotonic())
        except API_ERRORS as error:
            self._failed(action, error)
        else:
            self.error = ""

    def _failed(self, action: Look | Write | TakeOver, error: Exception) -> None:
        now = monotonic()
        if isinstance(action, TakeOver):
            self.election.not_taken_over(action.last.namespace, now)
        elif isinstance(action, Write) and _has_changed(error, is_new=action.last is None):
            self.election.conflicted(now)
        else:
            self.error = describe(error)
            self.election.failed(now)
            log.debug("Lease %s/%s: %s", self.me.home, LEASE_NAME, self.error)

    async def _look(self) -> None:
        sent = monotonic()
        if self.me.reach is Reach.CLUSTER:
            found = (await self._server.request("GET", _LEASE.path(""), _LEASE.selectors))["items"]
        else:
            found = await self._get()
        claims = [claim for claim in map(read_claim, found) if claim is not None]
        self.election.looked(claims, sent, monotonic())
        for claim in claims:
            if claim.namespace == self.me.home:
                self.on_version(claim.version)

    async def _get(self) -> list[Manifest]:
        try:
            return [await self._server.request("GET", _LEASE.path(self.me.home, LEASE_NAME))]
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return []
            raise

    async def _write(self, action: Write) -> None:
        manifest = write_claim(self.me, action.last, serving=action.serving, now=self._now())
        self.election.trying(action, manifest["spec"], monotonic())
        if action.last is None:
            written = await self._server.request("POST", _LEASE.path(self.me.home), (), manifest)
        else:
            written = await self._put(manifest)
        claim = _claim(written)
        self.election.wrote(claim)
        self.on_version(claim.version)

    async def _put(self, manifest: Manifest) -> Any:
        metadata = manifest["metadata"]
        return await self._server.request("PUT", _LEASE.path(metadata["namespace"], metadata["name"]), (), manifest)


class Leadership:
    """The elections of this process. Without candidates there is no election, and the process may write everywhere.

    `on_change` is called when `may_write` may have changed, and when there is something new to report.
    """

    def __init__(
        self,
        server: ApiServer,
        candidates: Sequence[Candidate],
        now: Callable[[], datetime],
        on_change: Callable[[], None],
    ) -> None:
        self._on_change = on_change
        self._electors = {me.home: Elector(server, me, now, self._check) for me in candidates}
        self._cluster_wide = next((e for e in self._electors.values() if e.me.reach is Reach.CLUSTER), None)
        self._timer: asyncio.TimerHandle | None = None
        self._last: object = None
        #: Whether a write was refused since the last check.
        self._refused = False
        #: Called with the namespace and the resourceVersion of each accepted renewal, and of each that the watch shows.
        self.sent: Callable[[str, int], None] = _nothing
        self.seen: Callable[[str, int], None] = _nothing
        self._shown: dict[str, int] = {}
        for namespace, elector in self._electors.items():
            elector.on_version = lambda version, namespace=namespace: self._version(namespace, version)  # type: ignore[misc]

    @property
    def is_elected(self) -> bool:
        """Whether leader election is on."""
        return bool(self._electors)

    def may_write(self, namespace: str) -> bool:
        """Return whether this process may write to a namespace now."""
        elector = self._cluster_wide or self._electors.get(namespace)
        if elector is None:
            return not self._electors
        allowed = elector.election.may_write(namespace, monotonic())
        self._refused = self._refused or not allowed
        return allowed

    def standings(self) -> list[tuple[Candidate, Standing, str]]:
        """Return for each scope the candidate, its standing, and the last error of its requests."""
        now = monotonic()
        return [(e.me, e.election.standing(now), e.error) for e in self._electors.values()]

    def on_lease(self, manifest: Manifest, deleted: bool) -> None:
        """Process a Lease from the watch."""
        claim = read_claim(manifest)
        if claim is None:
            return
        elector = self._cluster_wide or self._electors.get(claim.namespace)
        if elector is None:
            return
        if claim.namespace == elector.me.home and not deleted:
            self._shown[claim.namespace] = claim.version
            self.seen(claim.namespace, claim.version)
        elector.saw(claim, deleted=deleted)
        self._check()

    async def run(self, stopping: asyncio.Event) -> None:
        """Take part in the elections until `stopping` is set, and then give the Leases back."""
        tasks = {elector: asyncio.create_task(elector.run()) for elector in self._electors.values()}
        stopped = asyncio.create_task(stopping.wait())
        try:
            done, _ = await asyncio.wait([stopped, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stopped.cancel()
            await asyncio.gather(*(elector.close(task) for elector, task in tasks.items()))
            if self._timer is not None:
                self._timer.cancel()
            for task in tasks.values():
                task.cancel()

    def _version(self, namespace: str, version: int) -> None:
        """Record that a request has returned a version of our Lease, which the watch has to show, too."""
        if version > self._shown.get(namespace, 0):
            self.sent(namespace, version)

    def _check(self) -> None:
        """Tell if something has changed, and come back when the next deadline has passed."""
        if self._timer is not None:
            self._timer.cancel()
        now = monotonic()
        elections = [elector.election for elector in self._electors.values()]
        wait = min(election.seconds_to_change(now) for election in elections)
        self._timer = asyncio.get_running_loop().call_later(wait + 0.001, self._check)
        present = [(standing.phase, standing.leader, standing.left_out, standing.conflict, error, _holder(standing))
                   for _, standing, error in self.standings()]  # fmt: skip
        # A lapse can be so short that no check has seen it, but resources may be held because of it.
        lapsed = self._refused and any(standing.leader for _, standing, _ in self.standings())
        if present != self._last or lapsed:
            self._last, self._refused = present, False
            self._on_change()


def candidates(own_namespace: str, installation: str, pod: str, namespaces: Sequence[str]) -> list[Candidate]:
    """Return the candidates of a process: one for all namespaces, or one for each of the given ones."""
    identity, name = f"{own_namespace}/{pod}", f"{own_namespace}/{installation}"
    if not namespaces:
        return [Candidate(identity, name, Reach.CLUSTER, own_namespace)]
    return [Candidate(identity, name, Reach.NAMESPACE, namespace) for namespace in dict.fromkeys(namespaces)]


def _holder(standing: Standing) -> str:
    return standing.other.holder if standing.other is not None else ""


def _claim(manifest: Manifest) -> Claim:
    claim = read_claim(manifest)
    if claim is None:
        raise TypeError("the API server returned another object than the Lease")
    return claim


def _has_changed(error: Exception, *, is_new: bool) -> bool:
    """Return whether a write failed because the Lease has changed, or was created or deleted by somebody else."""
    if not isinstance(error, ApiException):
        return False
    # If the Lease is new, 404 means that its namespace does not exist.
    return error.status == HTTPStatus.CONFLICT or (error.status == HTTPStatus.NOT_FOUND and not is_new)


def _nothing(_: str, __: int) -> None:
    pass


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
