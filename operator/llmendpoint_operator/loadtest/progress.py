"""The progress of a run: what its pods answer, added up. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import Progress, StartState
from llmendpoint_operator.kube.owner import Manifest

_WAITING = (StartState.PREPARING, StartState.READY)
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
