"""The PodDisruptionBudget, with and without a pod that loads its models."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.endpoint.desired import Present, desired
from support.in_memory.endpoints import OWNER, SETTINGS, children, endpoint_spec


def budget(min_available: Any, *, loading: bool) -> dict[str, Any]:
    spec = endpoint_spec(disruptionBudget={"minAvailable": min_available})
    found = desired(OWNER, spec, SETTINGS, present=Present(loading=loading))
    (manifest,) = [item for item in found if item["kind"] == "PodDisruptionBudget"]
    return {name: value for name, value in manifest["spec"].items() if name != "selector"}


@pytest.mark.parametrize(("given", "written"), [(1, 1), ("50%", "50%"), (12, 12)])
def test_a_pod_that_is_broken_can_be_evicted(given: Any, written: Any) -> None:
    assert budget(given, loading=False) == {"minAvailable": written, "unhealthyPodEvictionPolicy": "AlwaysAllow"}


def test_no_pod_is_evicted_while_one_loads_its_models() -> None:
    assert budget(1, loading=True) == {"minAvailable": "100%", "unhealthyPodEvictionPolicy": "IfHealthyBudget"}


def test_without_the_field_evictions_are_not_limited() -> None:
    assert "PodDisruptionBudget/assistant" not in children()
