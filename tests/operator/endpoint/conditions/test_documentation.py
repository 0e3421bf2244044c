"""docs/conditions.md documents every condition and every reason."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

from llmendpoint_common.contracts.cluster import (
    EndpointCondition,
    EndpointReason,
    FaultReason,
    LoadTestCondition,
    LoadTestReason,
    PodReason,
    ScheduleCondition,
    ScheduleReason,
)
from llmendpoint_common.contracts.loadrun import VerdictReason
from llmendpoint_common.contracts.sidecar import ModelReason
from llmendpoint_operator.endpoint.conditions.model_reports import AVAILABILITY_FAILURES, LOADING_FAILURES

PAGE = (Path(__file__).parents[4] / "docs/conditions.md").read_text()


@pytest.mark.parametrize("condition", [*EndpointCondition, *LoadTestCondition, *ScheduleCondition])
def test_every_condition_has_a_section(condition: str) -> None:
    assert f"\n### {condition}\n" in PAGE


@pytest.mark.parametrize(
    "reason",
    sorted({*EndpointReason, *FaultReason, *LoadTestReason, *ModelReason, *PodReason, *ScheduleReason, *VerdictReason}),
)
def test_every_reason_is_documented(reason: str) -> None:
    assert f"`{reason}`" in PAGE


def anchors() -> set[str]:
    """Return the anchors of the page: those of its headings, as GitHub makes them, and those that are written down."""
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    return {heading.lower().replace(" ", "-") for heading in headings} | set(re.findall(r'<a id="([^"]+)">', PAGE))


def test_every_link_leads_to_one_place() -> None:
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors()
    # Two headings with one name have anchors of their own.
    assert not re.search(r"\(#stalled\)", PAGE)


def test_every_documented_reason_exists() -> None:
    tables = re.findall(r"^\|[^|]*\| `(\w+)`(?:, `(\w+)`)* \|", PAGE, re.MULTILINE)
    known = set(
        chain(EndpointReason, FaultReason, LoadTestReason, ModelReason, PodReason, ScheduleReason, VerdictReason)
    )
    assert {reason for row in tables for reason in row if reason} <= known


def test_every_reason_of_a_model_belongs_to_one_condition() -> None:
    assert set(ModelReason) == AVAILABILITY_FAILURES | LOADING_FAILURES
    assert not AVAILABILITY_FAILURES & LOADING_FAILURES
