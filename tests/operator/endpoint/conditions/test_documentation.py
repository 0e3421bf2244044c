"""docs/conditions.md documents every condition and every reason."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from llmendpoint_common.contracts.cluster import (
    EndpointCondition,
    EndpointReason,
    FaultReason,
    LoadTestCondition,
    LoadTestReason,
)
from llmendpoint_common.contracts.sidecar import ModelReason
from llmendpoint_operator.endpoint.conditions.model_reports import AVAILABILITY_FAILURES, LOADING_FAILURES

PAGE = (Path(__file__).parents[4] / "docs/conditions.md").read_text()


@pytest.mark.parametrize("condition", [*EndpointCondition, *LoadTestCondition])
def test_every_condition_has_a_section(condition: str) -> None:
    assert f"\n### {condition}\n" in PAGE


@pytest.mark.parametrize("reason", sorted(set(chain(EndpointReason, FaultReason, LoadTestReason, ModelReason))))
def test_every_reason_is_documented(reason: str) -> None:
    assert f"`{reason}`" in PAGE


def test_every_reason_of_a_model_belongs_to_one_condition() -> None:
    assert set(ModelReason) == AVAILABILITY_FAILURES | LOADING_FAILURES
    assert not AVAILABILITY_FAILURES & LOADING_FAILURES
