"""Operators that elect each other in virtual time: an API server with Leases, and processes with their own clocks."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from llmendpoint_operator.leadership.claims import Candidate, Reach, give_back, read_claim, take_over, write_claim
from llmendpoint_operator.leadership.election import Election, Look, TakeOver, Wait, Write

Manifest = dict[str, Any]
#: A request is given up after this time, as in `leadership/lease.py`.
TIMEOUT = 4.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """Virtual time, one API server, and the processes that use it. `seed` decides about delays and jitter."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.leases: dict[str, Manifest] = {}
        self.processes: list[Process] = []
        self.is_up = True
        #: The longest delay of a request and of a response, and of an event in the watch.
        self.request_delay = 0.02
        self.watch_delay = 0.1
        #: Called after each step.
        self.after: Callable[[], None] = lambda: None
        self._versions = itertools.count(10)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after some seconds."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
            self.after()
        self.now = end

    def run_until(self, check: Callable[[], bool], seconds: float = 120.0) -> float:
        """Let time pass until `check` holds, and return how many seconds it took."""
        begun = self.now
        while not check():
            assert self.now - begun < seconds, f"did not hold within {seconds:g} s"
            self.run(0.05)
        return self.now - begun

    def start(self, installation: str, *, namespace: str = "", pod: str = "", home: str = "", **how: Any) -> Process:
        """Start a process. `namespace` is its scope, empty for all namespaces; `home` is its own namespace."""
        home = home or installation
        reach = Reach.NAMESPACE if namespace else Reach.CLUSTER
        name = pod or f"pod-{len(self.processes)}"
        process = Process(self, Candidate(f"{home}/{name}", f"{home}/{installation}", reach, namespace or home), **how)
        self.processes.append(process)
        return process

    def writers(self, namespace: str) -> list[Process]:
        """Return the processes that would write to a namespace now."""
        return [process for process in self.processes if process.would_write(namespace)]

    # The API server.

    def write(self, manifest: Manifest) -> Manifest | None:
        """Create or update a Lease. Returns None if its version is not the present one."""
        namespace, version = manifest["metadata"]["namespace"], manifest["metadata"].get("resourceVersion")
        present = self.leases.get(namespace)
        if version != (present["metadata"]["resourceVersion"] if present else None):
            return None
        metadata = {**manifest["metadata"], "resourceVersion": str(next(self._versions))}
        self.leases[namespace] = {**manifest, "metadata": metadata}
        self._tell(self.leases[namespace], deleted=False)
        return self.leases[namespace]

    def delete(self, namespace: str) -> None:
        """Delete a Lease."""
        gone = self.leases.pop(namespace)
        metadata = {**gone["metadata"], "resourceVersion": str(next(self._versions))}
        self._tell({**gone, "metadata": metadata}, deleted=True)

    def _tell(self, lease: Manifest, *, deleted: bool) -> None:
        for process in self.processes:
            if process.can_see(lease["metadata"]["namespace"]):
                process.watch(lease, deleted=deleted)


class Process:
    """An operator process. Its clock has an offset and a speed of its own."""

    def __init__(
        self, world: World, me: Candidate, *, offset: float = 0.0, speed: float = 1.0, skew: float = 0.0
    ) -> None:
        self.world = world
        self.me = me
        self.election = Election(me, lambda: world.random.uniform(0, 5))
        self.reaches_server = True
        self._unseen: list[tuple[Manifest, bool]] | None = None
        self._offset, self._speed, self._skew = offset, speed, skew
        self._alive = True
        self._paused: list[Callable[[], None]] | None = None
        self._busy = False
        self._turn = 0
        self._last_event = 0.0
        world.at(0.0, self.step)

    def clock(self) -> float:
        """The monotonic clock of this process."""
        return self._offset + self._speed * self.world.now

    def wall(self) -> datetime:
        """The wall clock of this process."""
        return EPOCH + timedelta(seconds=self.world.now + self._skew)

    def would_write(self, namespace: str) -> bool:
        """Whether the process runs and may write."""
        return self._alive and self._paused is None and self.election.may_write(namespace, self.clock())

    @property
    def has_ended(self) -> bool:
        return not self._alive

    def kill(self) -> None:
        """End the process without a word."""
        self._alive = False

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does."""
        self._paused = self._paused or []

    def go_on(self) -> None:
        """Let the process run again. What it waited for arrives after it has run for a moment."""
        waiting, self._paused = self._paused or [], None
        for action in waiting:
            self.world.at(0.001, action)

    def end(self) -> None:
        """Give the Lease back and end, as after SIGTERM."""
        claim = self.election.give_up()
        self.kill()
        if claim is not None:
            self.world.write(give_back(claim, self.wall()))

    def lose_watch(self) -> None:
        """Receive no events any more. They arrive when the watch is back, because it resumes where it ended."""
        self._unseen = self._unseen or []

    def get_watch(self) -> None:
        """Receive the events since the watch was lost."""
        unseen, self._unseen = self._unseen or [], None
        for lease, deleted in unseen:
            self.watch(lease, deleted=deleted)

    def can_see(self, namespace: str) -> bool:
        return self.me.reach is Reach.CLUSTER or namespace == self.me.home

    def watch(self, lease: Manifest, *, deleted: bool) -> None:
        """Receive an event, in the order of events."""
        if self._unseen is not None:
            self._unseen.append((lease, deleted))
            return
        arrives = max(self._last_event, self.world.now + self.world.random.uniform(0, self.world.watch_delay))
        self._last_event = arrives

        def receive() -> None:
            claim = read_claim(lease)
            assert claim is not None
            (self.election.deleted if deleted else self.election.saw)(claim, self.clock())
            self.step()

        self.world.at(arrives - self.world.now, lambda: self._do(receive))

    def step(self) -> None:
        """Do the next action, unless a request is in flight."""
        if not self._alive or self._paused is not None or self._busy:
            return
        self._turn += 1
        turn = self._turn
        match self.election.next(self.clock()):
            case Wait(seconds):
                assert seconds > 0
                later = lambda: self.step() if self._turn == turn else None  # noqa: E731
                self.world.at(seconds / self._speed + 0.001, lambda: self._do(later))
            case Look():
                sent = self.clock()
                self._request(self._list, lambda found: self.election.looked(found, sent, self.clock()))
            case TakeOver(claim):
                freed = take_over(claim, self.wall())
                self._request(lambda: self.world.write(freed), lambda lease: self._took_over(claim.namespace, lease))
            case Write(last, serving) as write:
                manifest = write_claim(self.me, last, serving=serving, now=self.wall())
                self.election.trying(write, manifest["spec"], self.clock())
                self._request(lambda: self.world.write(manifest), self._wrote)

    def _wrote(self, lease: Manifest | None) -> None:
        if lease is None:
            self.election.conflicted(self.clock())
            return
        claim = read_claim(lease)
        assert claim is not None
        self.election.wrote(claim)

    def _took_over(self, namespace: str, lease: Manifest | None) -> None:
        if lease is None:
            self.election.not_taken_over(namespace, self.clock())
        else:
            self._see(lease)

    def _see(self, lease: Manifest) -> None:
        claim = read_claim(lease)
        assert claim is not None
        self.election.saw(claim, self.clock())

    def _list(self) -> list[Any]:
        return [read_claim(lease) for name, lease in self.world.leases.items() if self.can_see(name)]

    def _request(self, serve: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        """Send a request. It can be lost before or after the server has processed it."""
        world, self._busy = self.world, True
        done = False

        def finish(action: Callable[[], None]) -> None:
            nonlocal done
            if not done:
                done, self._busy = True, False
                action()
                self.step()

        def deliver(result: Any) -> None:
            if self.reaches_server:
                finish(lambda: answer(result))

        def process() -> None:
            if world.is_up and self.reaches_server:
                result = serve()
                back = world.random.uniform(0, world.request_delay)
                world.at(back, lambda: self._do(partial(deliver, result)))

        world.at(world.random.uniform(0, world.request_delay), process)
        give_up = lambda: finish(lambda: self.election.failed(self.clock()))  # noqa: E731
        world.at(TIMEOUT / self._speed, lambda: self._do(give_up))

    def _do(self, action: Callable[[], Any]) -> None:
        if self._paused is not None:
            self._paused.append(action)
        elif self._alive:
            action()
