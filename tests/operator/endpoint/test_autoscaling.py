"""Sentences about autoscalers that do not work."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.endpoint.autoscaling import autoscaling_trouble
from llmendpoint_operator.settings import Actuator
from support.in_memory.endpoints import endpoint_spec

SCALED = endpoint_spec(autoscaling={"maxReplicas": 5})


def autoscaler(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    rows = [
        {"type": kind, "status": status, "reason": reason, "message": "no data."} for kind, status, reason in conditions
    ]
    return {"metadata": {"name": "assistant"}, "status": {"conditions": rows}}


def test_an_endpoint_with_a_number_of_replicas_needs_no_autoscaler() -> None:
    assert autoscaling_trouble(endpoint_spec(replicas=2), None, None) == ""


def test_an_operator_without_an_autoscaler_says_what_to_set() -> None:
    assert "Set the value autoscaling.actuator" in autoscaling_trouble(SCALED, None, None)


@pytest.mark.parametrize(
    ("actuator", "conditions"),
    [
        (Actuator.KEDA, [("Ready", "False", "TriggerError")]),
        (Actuator.KEDA, [("Ready", "True", "Ok"), ("HPAActive", "False", "FailedGetExternalMetric")]),
        (Actuator.HPA, [("AbleToScale", "False", "FailedGetScale")]),
        (Actuator.HPA, [("AbleToScale", "True", "Ok"), ("ScalingActive", "False", "FailedGetExternalMetric")]),
    ],
)
def test_what_the_autoscaler_reports_is_quoted(actuator: Actuator, conditions: list[tuple[str, str, str]]) -> None:
    sentence = autoscaling_trouble(SCALED, actuator, autoscaler(*conditions))
    kind, _, reason = conditions[-1]
    assert f"assistant does not work, so the number of pods does not follow the load: {kind} is False" in sentence
    assert f"with reason {reason}: no data. Check " in sentence


@pytest.mark.parametrize(
    ("actuator", "conditions"),
    [
        (
            Actuator.KEDA,
            [("Ready", "True", "Ok"), ("Active", "False", "ScalerNotActive"), ("Paused", "True", "Paused")],
        ),
        (Actuator.KEDA, [("Ready", "Unknown", "PartialTriggerError")]),
        (Actuator.HPA, [("AbleToScale", "True", "Ok"), ("ScalingLimited", "True", "TooManyReplicas")]),
        # Nothing is wrong: there are no pods yet.
        (Actuator.HPA, [("ScalingActive", "False", "ScalingDisabled")]),
        (Actuator.HPA, []),
    ],
)
def test_an_autoscaler_that_works_or_has_not_looked_yet_is_no_trouble(
    actuator: Actuator, conditions: list[tuple[str, str, str]]
) -> None:
    assert autoscaling_trouble(SCALED, actuator, autoscaler(*conditions)) == ""
    assert autoscaling_trouble(SCALED, actuator, None) == ""
