"""The progress of a run: what its pods answer, added up. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmendpoint_common.contracts.loadrun import NOTHING_MEASURED, MetricName, Objective, Progress, StartState
from llmendpoint_common.results.so_far import show
from llmendpoint_operator.kube.owner import Manifest

_WAITING = (StartState.PREPARING, StartState.READY)
#: A pod may answer anything. The status has to stay small.
_MAX_TEXT = 256
_UNKNOWN = "The load pod runs. Its progress is not known."


@dataclass(frozen=True)
class RunProgress:
    """The pods of a run, and what each one answers, or None. `wanted` is the number of pods of the run."""

    pods: Sequence[Manifest]
    answers: Sequence[Progress | None]
    wanted: int

    @property
    def known(self) -> list[Progress]:
        """The answers."""
        return [answer for answer in self.answers if answer is not None]

    @property
    def has_begun(self) -> bool:
        """Whether a pod has started its load, and none waits for the order to start."""
        states = [answer.start for answer in self.known]
        return StartState.STARTED in states and not any(state in _WAITING for state in states)

    @property
    def percent(self) -> int | None:
        """The progress of the slowest pod. It is 100 only when the run has ended. None if it is not known."""
        return min((min(99, answer.percent) for answer in self.known), default=None)

    def state(self, objectives: Sequence[Objective]) -> dict[str, Any] | None:
        """Return `status.progress`, or None if no pod answers."""
        known = self.known
        if not known:
            return None
        rates = [answer.completed_rate for answer in known if answer.completed_rate is not None]
        state = {
            "requests": sum(answer.requests for answer in known),
            "errors": sum(answer.errors for answer in known),
            "inFlight": sum(answer.in_flight for answer in known),
            "requestsPerSecond": f"{sum(rates):.3g}" if rates else None,
            "awaiting": next((answer.awaiting for answer in known if answer.awaiting), "")[:_MAX_TEXT] or None,
            "slo": [self._objective(index, objective) for index, objective in enumerate(objectives)] or None,
        }
        return {name: value for name, value in state.items() if value is not None}

    def _objective(self, index: int, objective: Objective) -> dict[str, Any]:
        counted = [answer.so_far[index] for answer in self.known if len(answer.so_far) > index]
        mine = [item for item in counted if (item.metric, item.percentile) == (objective.metric, objective.percentile)]
        shown = show(objective, mine)
        # The objectives of the pods that do not answer are not known.
        met = shown.met if len(mine) == self.wanted else None
        measured = shown.measured if mine else NOTHING_MEASURED
        found = {
            "metric": MetricName(objective.metric).value,
            "percentile": objective.percentile,
            "threshold": shown.threshold,
            "measured": measured,
            "met": met,
        }
        return {name: value for name, value in found.items() if value is not None}

    def message(self, note: str) -> str:
        """Return the progress in words, with a note at the end."""
        known = self.known
        if not known:
            return f"{_UNKNOWN}{note}"
        requests, errors, tokens = (
            sum(getattr(answer, name) for answer in known) for name in ("requests", "errors", "output_tokens")
        )
        first = known[0]
        parts = [f"{requests} requests, {errors} errors, {tokens} tokens"]
        if self.wanted > 1:
            parts.append(f"{len(known)} of {self.wanted} pods answer")
        parts += [text for text in (first.stage, first.awaiting) if text]
        worst = next((answer.error for answer in known if answer.error), "")
        return ". ".join([", ".join(parts), *([worst] if worst else [])]) + note
