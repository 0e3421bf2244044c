"""Specs of load tests: validation by pydantic, and descriptions."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llmendpoint_common.api.loadtest.spec import LoadPod, LoadShape, Request, parse_spec


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ({"metric": "TTFT", "threshold": "1s"}, "percentile is required for TTFT"),
        ({"metric": "ErrorRate", "percentile": 95, "threshold": "1%"}, "percentile is not allowed for ErrorRate"),
        ({"metric": "TTFT", "percentile": 95, "threshold": "5%"}, "is not a duration"),
        ({"metric": "Attainment", "threshold": "1s"}, "is not a share"),
        ({"metric": "ErrorRate", "threshold": "100.5%"}, "should match pattern"),
        ({"metric": "ErrorRate", "threshold": "101%"}, "should match pattern"),
        ({"metric": "ErrorRate", "threshold": "100.0%"}, "must be less than 100%, because every run meets 100%"),
        ({"metric": "Attainment", "threshold": "0.0%"}, "must be more than 0%, because every run meets 0%"),
    ],
)
def test_an_objective_that_cannot_be_judged_is_refused_without_the_api_server_too(
    item: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        parse_spec({"spec": {"endpointRef": {"name": "a"}, "slo": [item]}})


@pytest.mark.parametrize(
    ("metric", "threshold"),
    [
        ("ErrorRate", "0%"),
        ("ErrorRate", "99.99%"),
        ("Attainment", "0.01%"),
        ("Attainment", "100%"),
        ("Attainment", "100.0%"),
    ],
)
def test_a_share_that_a_run_can_miss_is_a_threshold(metric: str, threshold: str) -> None:
    spec = parse_spec({"spec": {"slo": [{"metric": metric, "threshold": threshold}]}})
    assert spec.slo[0].threshold == threshold


@pytest.mark.parametrize(
    ("description", "default"),
    [
        (LoadShape.model_fields["concurrency"].description, "without a scenario, it is 1 user."),
        (LoadShape.model_fields["duration"].description, "without a scenario to 30s"),
        (LoadShape.model_fields["warmup"].description, "without a scenario to 0s."),
        (LoadShape.model_fields["seed"].description, "Defaults to 1."),
        (Request.model_fields["timeout"].description, "Defaults to 5m."),
        (
            LoadPod.model_fields["resources"].description,
            "default to 500m CPU, 128Mi memory and 64Mi ephemeral storage, limits to 1Gi memory and 1Gi ephemeral storage.",
        ),
    ],
)
def test_descriptions_name_the_default(description: str | None, default: str) -> None:
    assert description is not None
    assert default in description
