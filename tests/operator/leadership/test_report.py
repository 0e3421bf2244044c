"""What an operator says about its leadership, and when."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from llmendpoint_operator.leadership.claims import Candidate, Claim, Reach
from llmendpoint_operator.leadership.election import Phase, Standing
from llmendpoint_operator.leadership.report import Reporter

ME = Candidate("ops/pod-a", "ops/one", Reach.CLUSTER, "ops")
WAITING = Standing(Phase.STANDBY, False, None, False, ())
CLAIMING = Standing(Phase.CLAIMING, False, None, False, ())
LEADING = Standing(Phase.LEADING, True, None, False, ())
LAPSED = Standing(Phase.LEADING, False, None, False, ())
OTHER = Claim("else", 1, "else/pod-b", "else/two", Reach.CLUSTER, True, 15.0, {})
CONFLICT = Standing(Phase.YIELDING, False, OTHER, True, ())


class Standings:
    """The standing of one scope."""

    def __init__(self) -> None:
        self.now = (WAITING, "")

    def standings(self) -> list[tuple[Candidate, Standing, str]]:
        return [(ME, *self.now)]


class Setting:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.events: list[str] = []
        self._caplog = caplog
        self._standings = Standings()
        self._reporter = Reporter(self._standings, self.events.append)  # type: ignore[arg-type]

    def lines(self, standing: Standing, error: str = "") -> list[tuple[str, str]]:
        """Report a standing, and return the new lines with their levels."""
        self._caplog.clear()
        self._standings.now = standing, error
        self._reporter.report()
        return [(record.levelname, record.getMessage()) for record in self._caplog.records]


@pytest.fixture
def setting(caplog: pytest.LogCaptureFixture) -> Setting:
    return Setting(caplog)


def test_a_start_has_one_line_and_a_repeated_standing_has_none(setting: Setting) -> None:
    assert setting.lines(WAITING) == setting.lines(CLAIMING) == []
    assert setting.lines(LEADING) == [("INFO", "This operator serves all namespaces (Lease ops/llmendpoint-operator).")]
    assert setting.lines(LEADING) == []


def test_a_lapse_is_reported_with_its_cause(setting: Setting) -> None:
    setting.lines(LEADING)
    assert setting.lines(LEADING, "TimeoutError") == []
    ((level, text),) = setting.lines(LAPSED, "TimeoutError")
    assert level == "WARNING"
    assert "cannot read or write Lease ops/llmendpoint-operator: TimeoutError. It tries again." in text
    assert setting.lines(LAPSED)[0][0] == "INFO"


def test_a_conflict_is_one_line_and_one_event_until_it_ends(setting: Setting) -> None:
    ((level, text),) = setting.lines(CONFLICT)
    assert level == "WARNING"
    assert text.startswith(
        "Installation else/two serves all namespaces (Lease else/llmendpoint-operator, held by else/pod-b)."
    )
    assert "operator.watchNamespaces" in text
    other_pod = replace(CONFLICT, other=replace(OTHER, holder="else/pod-c"))
    assert len(setting.lines(other_pod)) == 1
    assert setting.events == [text]
    setting.lines(LEADING)
    setting.lines(CONFLICT)
    assert len(setting.events) == 2


def test_a_namespace_that_is_left_out_and_comes_back_is_reported(setting: Setting) -> None:
    setting.lines(LEADING)
    ((level, text),) = setting.lines(replace(LEADING, left_out=(("a", "x/two"),)))
    assert (level, text.partition(",")[0]) == ("WARNING", "Namespace a is left to installation x/two")
    assert setting.lines(LEADING) == [("INFO", "This operator serves namespace a again.")]
