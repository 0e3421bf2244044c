"""A world with virtual time for the detection of a hung Ollama: requests with slots, loads, and tests of one token.

The model of Ollama is as in its source: each model has a number of slots, a request first waits for its model to be
loaded, then for a slot, then it is silent for its prefill, and then sends bytes at intervals. Loads are one after the
other, and block requests for all models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmendpoint_sidecar.meter.traffic import FLOWING_SECONDS, ModelTraffic
from llmendpoint_sidecar.stall.detector import Detector, Hang, Question, StallTimes


@dataclass
class Work:
    """A request: when it arrives, and how long its parts take, in seconds. `pieces` come at intervals of `pause`."""

    model: str = "m"
    at: float = 0.0
    prefill: float = 0.5
    pieces: int = 1
    pause: float = 0.1
    own_runner: bool = False
    slots: int = 1
    #: The client leaves after this time, and does not read from one time to another.
    patience: float = float("inf")
    unread: tuple[float, float] = (0.0, 0.0)
    is_test: bool = False
    # State.
    began: float | None = None
    sent: int = 0
    heard: float = 0.0
    ended: float | None = None


@dataclass
class World:
    """Ollama, its clients and the detector. `slots` are what Ollama really has; `parallel` what the sidecar was told."""

    after: float = 1800.0
    parallel: int = 1
    slots: int = 0
    load: float = 0.0
    works: list[Work] = field(default_factory=list)
    hung_from: float = float("inf")
    hung_until: float = float("inf")
    now: float = 0.0
    in_memory: dict[str, int] = field(default_factory=dict)
    tests: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = self.slots or self.parallel
        self.detector = Detector(self.parallel, StallTimes(self.after))
        self.loading: tuple[str, float] | None = None
        self.test: tuple[Work, float] | None = None
        self.last_bytes: dict[str, float] = {}
        self._present: list[Work] = []
        self.given_up: dict[str, int] = {}
        #: Number of requests that were refused while the detector wanted that none is forwarded.
        self.refused = 0

    @property
    def is_hung(self) -> bool:
        return self.hung_from <= self.now < self.hung_until

    def run(self, seconds: float) -> Hang | None:
        """Let time pass until the detector reports a hang, and return it."""
        end = self.now + seconds
        while self.now < end:
            self.now += self.detector.times.interval
            # Thousands of works are looked at once per step, and not for each of those that are there.
            self._present = [one for one in self.works if one.at <= self.now and one.ended is None]
            self._leave()
            self._refuse()
            if not self.is_hung:
                self._load()
                self._serve()
            found = self._end_test() or self._observe()
            if found is not None:
                return found
        return None

    # ---- Ollama

    def _active(self) -> list[Work]:
        return [one for one in self._present if one.ended is None]

    def _load(self) -> None:
        if self.loading is not None:
            _, until = self.loading
            if self.now < until:
                return
            self.loading = None
        wanted = next((one.model for one in self._active() if one.model not in self.in_memory), None)
        if wanted is not None:
            # As in Ollama, `/api/ps` lists a model while it is being loaded.
            self.in_memory[wanted] = len(self.in_memory) + 1
            self.loading = (wanted, self.now + self.load)

    def _serve(self) -> None:
        waits_for_load = self.loading is not None and self.now < self.loading[1]
        for one in self._active():
            if one.began is None and not waits_for_load and self._has_slot(one):
                one.began = self.now
            if one.began is not None:
                self._send(one)

    def _has_slot(self, wanted: Work) -> bool:
        running = [one for one in self._active() if one.model == wanted.model and one.began is not None]
        if wanted.is_test and any(one.own_runner for one in running):
            return False
        return sum(one.slots for one in running) + min(wanted.slots, self.slots) <= self.slots

    def _send(self, one: Work) -> None:
        assert one.began is not None
        if one.unread[0] <= self.now < one.unread[1]:
            return
        due = int((self.now - one.began - one.prefill) / one.pause) + 1 if self.now >= one.began + one.prefill else 0
        if due > one.sent:
            one.sent, one.heard = min(due, one.pieces), self.now
            if not one.is_test:
                self.last_bytes[one.model] = self.now
            if one.sent >= one.pieces:
                one.ended = self.now

    def _leave(self) -> None:
        for one in self._active():
            if self.now - one.at > one.patience:
                one.ended = self.now
                if not one.is_test:
                    self.given_up[one.model] = self.given_up.get(one.model, 0) + 1

    def _refuse(self) -> None:
        """Refuse the requests that have just arrived while none is forwarded."""
        hold = self.detector.hold
        for one in self._active() if hold is not None else ():
            is_new = self.now - one.at < self.detector.times.interval and not one.is_test
            if is_new and hold is not None and hold.model in (None, one.model):
                one.ended = self.now
                self.refused += 1

    # ---- the sidecar

    def traffic(self) -> dict[str, ModelTraffic]:
        """Return what the proxy sees. A test is not a request of a client."""
        found: dict[str, ModelTraffic] = {}
        for one in self._active():
            if one.is_test:
                continue
            seen = found.setdefault(one.model, ModelTraffic())
            seen.in_flight += 1
            seen.own_runner |= one.own_runner or one.slots > 1
            if one.unread[0] <= self.now < one.unread[1] and one.sent:
                seen.unread = True
            else:
                seen.wait(one.heard or one.at)
            if one.sent:
                seen.flowing += self.now - one.heard <= FLOWING_SECONDS
        for model, when in self.last_bytes.items():
            found.setdefault(model, ModelTraffic()).last_byte = when
        for model, count in self.given_up.items():
            found.setdefault(model, ModelTraffic()).given_up = count
        return found

    def _observe(self) -> Hang | None:
        decision = self.detector.tick(self.now, self.traffic(), self.in_memory)
        if isinstance(decision, Question):
            self.tests.append((self.now, decision.model))
            work = Work(decision.model, self.now, prefill=0.2, is_test=True)
            self.works.append(work)
            self.test = work, self.now + decision.seconds
            return None
        return decision

    def _end_test(self) -> Hang | None:
        if self.test is None:
            return None
        work, until = self.test
        if work.ended is None and self.now < until:
            return None
        self.test = None
        answered = work.ended is not None
        work.ended = work.ended or self.now
        return self.detector.answer(answered)
