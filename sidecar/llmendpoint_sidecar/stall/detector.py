"""Decides whether Ollama is hung. It has no clock and no I/O: times and observations are passed in.

A model is *silent* while requests for it wait and none of them gets a byte. Silence alone is not a hang, because these
are healthy and can take minutes: the prefill of a large prompt, a tool call that is composed, a response with
`stream: false`, the load of a model, and a queue. There are three ways to tell:

- The question. After a quarter of `after`, and at most two minutes, of silence, the model is asked for one token, which
  a healthy Ollama generates beside the other requests. No answer is a hang only if nothing else can delay it (a).
- The limit. The model was silent for `after`, and no request was given up meanwhile (b).
- The hold. If the model was silent for `after`, but requests were given up, no new requests are forwarded to it. Then
  either the limit decides, or all requests are gone, and the question decides. Without the hold, clients with short
  timeouts that try again would hide a hang for ever, because they never leave a slot free.

(a) All of this must hold from the question to its answer:
    - A slot is free, and the model was seen to run so many requests at once since it was loaded. OLLAMA_NUM_PARALLEL is
      not enough, because Ollama gives some architectures one slot whatever it says (server/sched.go).
    - Every request in flight uses one slot, and the same runner as the question. A request with other options, such as
      `num_ctx`, has another runner, which Ollama would have to end for the question. The texts of an embedding request
      take all slots.
    - No request waits for a model that has not answered since it was loaded. Ollama schedules one request after the
      other, so while it loads a model, or waits until another model can be evicted, requests for all models wait. Then
      limit and hold decide, and they count the silence of all models together.
    - Every client reads its response: if one does not, the proxy does not read Ollama's bytes either.
(b) When a client leaves, the next request begins with the slot, and may be silent for as long again.

Signs of life of a model are bytes of successful responses, an answer to the question, and a change of its entry in
`/api/ps`. Silence is counted in steps of at most twice the interval of the calls: if this process or the whole machine
was paused, the time of the pause does not count.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeAlias

from llmendpoint_sidecar.meter.traffic import ModelTraffic

#: Upper bounds of the times that are shares of `after`, in seconds.
_MAX_SUSPICION_SECONDS = 120.0
_MAX_ANSWER_SECONDS = 300.0
_MAX_INTERVAL_SECONDS = 1.0

#: What `/api/ps` says about the models in memory, by label. A change means that the model was loaded again.
Memory: TypeAlias = Mapping[str, Hashable]


class StallTimes(NamedTuple):
    """Times in seconds that follow from `after`. `suspicion` and `answer` together are not longer than `after`."""

    after: float

    @property
    def suspicion(self) -> float:
        """Silence of a model before it is asked, and time between two questions."""
        return min(self.after / 4, _MAX_SUSPICION_SECONDS)

    @property
    def answer(self) -> float:
        """Time in which a model must answer the question."""
        return min(self.after * 3 / 4, _MAX_ANSWER_SECONDS)

    @property
    def interval(self) -> float:
        """Time between two observations."""
        return min(self.after / 20, _MAX_INTERVAL_SECONDS)


class Hang(NamedTuple):
    """Ollama is hung for a model, or for all models (None).

    `silent` is the time without a byte, in seconds. `was_asked`: the question was not answered.
    """

    model: str | None
    silent: float
    was_asked: bool = False


class Question(NamedTuple):
    """Ask a model for one token, and wait for it at most `seconds`. `Detector.answer` takes the result."""

    model: str
    seconds: float


class Hold(NamedTuple):
    """No new requests for a model are forwarded, or for any model (None)."""

    model: str | None


class _Model:
    """What is known of one model. Times are in seconds.

    silent:    time without a sign of life while requests wait
    unmoved:   the same, but since the last request was given up
    unasked:   the same as `silent`, but since the last question
    idle:      time without requests
    answered:  whether it has answered since it was loaded
    at_once:   how many requests it was seen to run at once since it was loaded
    """

    __slots__ = ("answered", "at_once", "given_up", "idle", "last_byte", "memory", "silent", "unasked", "unmoved")

    def __init__(self) -> None:
        self.silent = self.unmoved = self.unasked = self.idle = 0.0
        self.last_byte = 0.0
        self.given_up = 0
        self.memory: Hashable = None
        self.answered = False
        self.at_once = 0

    def live(self) -> None:
        """Note a sign of life."""
        self.silent = self.unmoved = self.unasked = 0.0

    @property
    def is_settled(self) -> bool:
        return self.answered and self.memory is not None


class _Asked:
    """A question, the requests in flight at its beginning, and whether only a hang can delay its answer."""

    __slots__ = ("in_flight", "is_conclusive", "is_undisturbed", "model")

    def __init__(self, model: str, in_flight: int, is_conclusive: bool) -> None:
        self.model = model
        self.in_flight = in_flight
        self.is_conclusive = is_conclusive
        #: Whether no request of the model has got a byte meanwhile, so that all of them still run.
        self.is_undisturbed = True


class Detector:
    """Observes the traffic of all models that run here. `parallel` is the number of slots per model.

    `hold` is not None while new requests must not be forwarded.
    """

    def __init__(self, parallel: int, times: StallTimes) -> None:
        self.times = times
        self.hold: Hold | None = None
        self._parallel = parallel
        self._forget()

    def reset(self) -> None:
        """Forget everything, because Ollama does not answer at all, or was restarted."""
        self._forget()

    def _forget(self) -> None:
        self.hold = None
        self._now: float | None = None
        self._models: dict[str, _Model] = {}
        self._asked: _Asked | None = None
        #: Like the fields of a model, for all models together.
        self._silent = self._unmoved = 0.0
        self._traffic: Mapping[str, ModelTraffic] = {}

    def tick(self, now: float, traffic: Mapping[str, ModelTraffic], memory: Memory) -> Hang | Question | None:
        """Take an observation, and return what to do. `now` is a reading of the monotonic clock."""
        step = 0.0 if self._now is None else min(now - self._now, 2 * self.times.interval)
        self._now, self._traffic = now, traffic
        lives = moves = False
        for label in {*self._models, *traffic, *memory}:
            model = self._models.get(label)
            if model is None:
                model = self._models[label] = _Model()
            before = model.given_up
            lives |= self._observe(model, traffic.get(label, _NOTHING), memory.get(label), step)
            moves |= model.given_up != before
        waiting = {label: one for label, one in traffic.items() if one.waiting_since is not None}
        if lives or not (waiting or self._is_in_gap()):
            self._silent = self._unmoved = 0.0
        elif waiting:
            self._silent += step
            self._unmoved = 0.0 if moves else self._unmoved + step
        self._release()
        return self._judge(waiting)

    def loaded(self, label: str) -> None:
        """Note that a model has just been loaded, and has answered a request that is not in the traffic."""
        model = self._models.setdefault(label, _Model())
        model.answered = True
        model.at_once = max(model.at_once, 1)

    def answer(self, answered: bool | None) -> Hang | None:
        """Take the result of a question: whether the model answered in time, or None if Ollama returned an error."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        model = self._models[asked.model]
        model.unasked = 0.0
        if answered is False:
            silent = max(model.silent, self._silent)
            is_hang = asked.is_conclusive and asked.is_undisturbed
            return Hang(asked.model, silent, was_asked=True) if is_hang else None
        if answered:
            model.answered = True
            if asked.is_undisturbed:
                model.at_once = max(model.at_once, asked.in_flight + 1)
        if answered or self.hold is not None:
            # With an error, Ollama has answered too. While nothing is forwarded, nothing else would end the hold.
            model.live()
            self._silent = self._unmoved = 0.0
            self._release()
        return None

    def candidate(self) -> str | None:
        """Return the model to ask if no model in particular is hung: the one whose requests wait longest."""
        waits = {one: seen.waiting_since for one, seen in self._traffic.items() if seen.waiting_since is not None}
        known = [one for one, model in self._models.items() if model.memory is not None or model.silent]
        return min(known, key=lambda one: waits.get(one, float("inf")), default=None)

    # ---- inside

    def _observe(self, model: _Model, seen: ModelTraffic, memory: Hashable, step: float) -> bool:
        """Update one model, and return whether it gave a sign of life."""
        lives = memory != model.memory
        if lives and model.memory is not None:
            model.answered, model.at_once = False, 0
        model.memory = memory
        if seen.last_byte > model.last_byte:
            model.last_byte = seen.last_byte
            lives = model.answered = True
            model.at_once = max(model.at_once, 1)
        model.at_once = max(model.at_once, seen.flowing)
        if seen.given_up != model.given_up:
            model.given_up = seen.given_up
            model.unmoved = 0.0
        lives = lives or seen.unread
        if lives:
            model.live()
        elif seen.waiting_since is not None:
            model.silent += step
            model.unmoved += step
            model.unasked += step
            model.idle = 0.0
        else:
            # Silence outlasts short gaps between the requests of clients that give up.
            model.idle += step
            if model.idle >= self.times.suspicion and not self._is_held(model):
                model.live()
        return lives

    def _is_in_gap(self) -> bool:
        return any(model.silent for model in self._models.values())

    def _is_held(self, model: _Model) -> bool:
        return self.hold is not None and (self.hold.model is None or self._models.get(self.hold.model) is model)

    def _release(self) -> None:
        """End the hold after a sign of life."""
        if self.hold is not None:
            model = None if self.hold.model is None else self._models[self.hold.model]
            if (self._silent if model is None else model.silent) == 0.0:
                self.hold = None

    def _judge(self, waiting: Mapping[str, ModelTraffic]) -> Hang | Question | None:
        after = self.times.after
        self._judge_question()
        if not all(self._models[label].is_settled for label in waiting):
            if self._asked is not None and self.hold is None:
                self._asked.is_conclusive = False
            if self._unmoved >= after:
                return Hang(None, self._silent)
            if self._silent >= after and self.hold is None:
                self.hold = Hold(None)
        else:
            for label in waiting:
                model = self._models[label]
                if model.unmoved >= after:
                    return Hang(label, model.silent)
                if model.silent >= after and self.hold is None:
                    self.hold = Hold(label)
        return None if self._asked is not None else self._ask_alone() or self._ask_beside()

    def _judge_question(self) -> None:
        """Note what can delay the answer to the question, or has made it unnecessary."""
        asked = self._asked
        if asked is None:
            return
        seen = self._traffic.get(asked.model, _NOTHING)
        if seen.own_runner or seen.unread:
            asked.is_conclusive = False
        if self._models[asked.model].silent == 0.0:
            asked.is_undisturbed = False

    def _ask_alone(self) -> Question | None:
        """Return the question to a model for which nothing is forwarded, when its last request is gone.

        If the model has to be loaded, its answer may take as long as a load.
        """
        if self.hold is None:
            return None
        label = self.candidate() if self.hold.model is None else self.hold.model
        held = self._traffic.values() if self.hold.model is None else [self._traffic.get(self.hold.model, _NOTHING)]
        if label is None or any(seen.in_flight for seen in held):
            return None
        self._asked = _Asked(label, 0, is_conclusive=True)
        return Question(label, self.times.answer if self._models[label].is_settled else self.times.after)

    def _ask_beside(self) -> Question | None:
        """Return the question to a silent model that has a free slot."""
        for label, model in self._models.items():
            seen = self._traffic.get(label, _NOTHING)
            is_due = min(model.silent, model.unasked) >= self.times.suspicion
            if is_due and model.is_settled and seen.in_flight < self._parallel and not seen.own_runner:
                self._asked = _Asked(label, seen.in_flight, model.at_once > seen.in_flight)
                return Question(label, self.times.answer)
        return None


_NOTHING = ModelTraffic()
