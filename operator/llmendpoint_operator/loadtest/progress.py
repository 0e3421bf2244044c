"""The progress of a run: what its pods answer, added up. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmendpoint_common.contracts.loadrun import NOTHING_MEASURED, MetricName, Objective, Progress, StartState
from llmendpoint_common.results.so_far import show
from llmendpoint_common.results.words import plural
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest.observe import is_over

_WAITING = (StartState.PREPARING, StartState.READY)
#: A pod may answer anything. The status has to stay small.
_MAX_TEXT = 256
_UNKNOWN = "The load pod runs. Its progress is not known"
_ENDED = "The load pods have ended, and their results are awaited"
_SILENT = "No load pod answers any more, as is normal at the end of a run"


@dataclass(frozen=True)
class RunProgress:
    """The pods of a run, and what each one answers, or None. `wanted` is the number of pods of the run.

    `earlier` are the last answers of pods that do not answer now. A pod stops answering before it writes its result.
    """

    pods: Sequence[Manifest]
    answers: Sequence[Progress | None]
    wanted: int
    earlier: Sequence[Progress] = ()

    @property
    def known(self) -> list[Progress]:
        """The answers."""
        return [answer for answer in self.answers if answer is not None]

    @property
    def _counted(self) -> list[Progress]:
        """The last answer of each pod."""
        return [*self.known, *self.earlier]

    @property
    def _is_silent(self) -> bool:
        """Whether a pod does not answer although it has not ended."""
        return any(answer is None and not is_over(pod) for pod, answer in zip(self.pods, self.answers, strict=True))

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
        """Return `status.progress`, or None if no pod has answered yet."""
        known, counted = self.known, self._counted
        if not counted:
            return None
        rates = [answer.completed_rate for answer in known if answer.completed_rate is not None]
        state = {
            "requests": sum(answer.requests for answer in counted),
            "errors": sum(answer.errors for answer in counted),
            "inFlight": sum(answer.in_flight for answer in known),
            "requestsPerSecond": f"{sum(rates):.3g}" if rates else None,
            "awaiting": next((answer.awaiting for answer in known if answer.awaiting), "")[:_MAX_TEXT] or None,
            "slo": [self._objective(index, objective) for index, objective in enumerate(objectives)] or None,
        }
        return {name: value for name, value in state.items() if value is not None}

    def _objective(self, index: int, objective: Objective) -> dict[str, Any]:
        counted = [answer.so_far[index] for answer in self._counted if len(answer.so_far) > index]
        mine = [item for item in counted if (item.metric, item.percentile) == (objective.metric, objective.percentile)]
        shown = show(objective, mine)
        # The objectives of the pods that do not answer are not known, except at their end.
        met = shown.met if len(mine) == self.wanted and not self._is_silent else None
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
        known, counted = self.known, self._counted
        if not counted:
            return f"{_UNKNOWN if self._is_silent else _ENDED}{note or '.'}"
        requests, errors, tokens = (
            sum(getattr(answer, name) for answer in counted) for name in ("requests", "errors", "output_tokens")
        )
        parts = [f"{plural(requests, 'request')}, {plural(errors, 'error')}, {plural(tokens, 'token')}"]
        if not known:
            return ". ".join([*parts, _SILENT]) + (note or ".")
        if self.wanted > 1:
            parts.append(f"{len(known)} of {self.wanted} pods answer")
        parts += [text for text in (known[0].stage, known[0].awaiting) if text]
        worst = next((answer.error for answer in known if answer.error), "")
        return ". ".join([", ".join(parts), *([worst] if worst else [])]) + note
