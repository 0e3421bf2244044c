"""The form of the page as a run document, a LoadTest and a command."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.contracts.loadrun import PRESETS, Scenario
from llmendpoint_dashboard.contract import LoadTestRequest
from llmendpoint_dashboard.loadtests.documents import longest_seconds, manifest, presets, run_document
from llmendpoint_dashboard.loadtests.problems import RefusedError
from llmendpoint_dashboard.settings import LoadLimits
from llmendpoint_dashboard.words import load_sentence
from llmendpoint_loadjob.settings import parse_settings

LIMITS = LoadLimits()
URL = "http://127.0.0.1:11435"


def form(**fields: Any) -> LoadTestRequest:
    return LoadTestRequest(**{"source": "team/assistant", "model": "tiny:latest", **fields})


def refused(**fields: Any) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        run_document(form(**fields), URL, LIMITS)
    return caught.value.field, str(caught.value)


@pytest.mark.parametrize(
    ("fields", "load"),
    [
        ({"duration": "30s"}, "1 user for 30s"),
        ({"duration": "5m", "concurrency": 4}, "4 users for 5m00s"),
        ({"duration": "90s", "rate": 2.5}, "2.5 requests/s for 1m30s"),
        ({"scenario": "Smoke"}, "1 user for 5m00s, at most 5 requests"),
        ({"scenario": "Baseline", "duration": "1m"}, "4 users for 1m00s, after a warm-up of 30s"),
        ({"scenario": "Ramp", "concurrency": 8}, "rising to 8 users in 10m00s"),
        ({"scenario": "Spike"}, "2, 20, 2 users in 5m00s"),
    ],
)
def test_a_form_becomes_a_load(fields: dict[str, Any], load: str) -> None:
    assert load_sentence(run_document(form(**fields), URL, LIMITS)) == load


def test_objectives_are_those_of_the_command_line() -> None:
    document = run_document(form(duration="30s", objectives=["ttft:p95=2s", "error-rate=1%"]), URL, LIMITS)
    assert [(item.metric.value, item.threshold, item.percentile) for item in document.objectives] == [
        ("TTFT", 2.0, 95),
        ("ErrorRate", 0.01, None),
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "duration"),
        ({"duration": "soon"}, "duration"),
        ({"duration": "0s"}, "duration"),
        ({"duration": "2h"}, "duration"),
        ({"scenario": "Traffic"}, "duration"),
        ({"scenario": "Nothing"}, "scenario"),
        ({"duration": "30s", "concurrency": 0}, "concurrency"),
        ({"duration": "30s", "concurrency": 257}, "concurrency"),
        ({"duration": "30s", "concurrency": 2, "rate": 1.0}, "rate"),
        ({"duration": "30s", "rate": 0.0}, "rate"),
        ({"duration": "30s", "rate": 1e9}, "rate"),
        ({"duration": "30s", "rate": float("nan")}, "rate"),
        ({"duration": "30s", "objectives": ["ttft"]}, "objectives"),
        ({"duration": "30s", "objectives": ["ttft:p95=1s"] * 33}, "objectives"),
        ({"duration": "30s", "model": ""}, "model"),
        ({"duration": "30s", "model": "a\nb"}, "model"),
        ({"duration": "30s", "model": "a" * 300}, "model"),
        ({"duration": "30s", "name": "../up"}, "name"),
        ({"duration": "30s", "name": "a b"}, "name"),
        ({"scenario": "Sweep", "concurrency": 3}, "concurrency"),
    ],
)
def test_a_wrong_field_is_named_with_a_sentence(fields: dict[str, Any], field: str) -> None:
    found, sentence = refused(**fields)
    assert found == field
    assert sentence.endswith(".")
    assert sentence[0].isupper() or sentence[0] == "'"


def test_the_page_offers_the_scenarios_that_it_can_start() -> None:
    names = {preset.name for preset in presets(LIMITS)}
    assert names == {scenario.value for scenario in Scenario} - {"Traffic"}
    assert "Soak" not in {preset.name for preset in presets(LoadLimits(seconds=600.0))}


def test_the_longest_time_of_a_sweep_is_bounded() -> None:
    sweep = PRESETS[Scenario.SWEEP]
    document = run_document(form(scenario="Sweep"), URL, LIMITS)
    assert 300 < longest_seconds(document.load) < 3600
    assert sweep.objectives


@pytest.mark.parametrize(
    "fields",
    [
        {"duration": "30s", "concurrency": 2, "objectives": ["ttft:p95=2s", "error_rate=1%", "attainment=99%"]},
        {"duration": "1m", "rate": 0.5},
        {"scenario": "Ramp", "concurrency": 8},
        {"scenario": "Sweep", "rate": 20.0, "objectives": ["tpot:p50=50ms"]},
        {"scenario": "Smoke", "name": "my-test"},
    ],
)
def test_a_manifest_is_a_valid_load_test_with_the_same_load(fields: dict[str, Any]) -> None:
    request = form(**fields)
    made = manifest(request, "team", "assistant", URL)
    body = yaml.safe_load(made.manifest)
    assert (body["apiVersion"], body["kind"]) == ("llmendpoint.dev/v1alpha1", "LoadTest")
    metadata = body["metadata"]
    assert metadata["namespace"] == "team"
    has_name = "name" in fields
    assert metadata.get("name" if has_name else "generateName") == ("my-test" if has_name else "assistant-load-")
    assert made.command == f"kubectl {'apply' if has_name else 'create'} -f -"
    spec = parse_spec(body)
    document = run_document(request, URL, LoadLimits(1e6, 10**6))
    assert spec.resolved.objectives == document.objectives
    assert spec.resolved.load.concurrency == document.load.concurrency
    assert spec.resolved.load.rate == document.load.rate
    assert spec.resolved.load.stages == document.load.stages
    assert spec.resolved.load.sweep == document.load.sweep

    words = shlex.split(made.local)
    assert words[:2] == ["llmendpoint", "load"]
    assert parse_settings(words[2:], environment={}).document.objectives == document.objectives
    assert parse_settings(words[2:], environment={}).document.load == document.load


def test_texts_of_a_form_stay_texts() -> None:
    made = manifest(form(model="$(rm -rf /); 'a' --x", duration="30s"), "team", "assistant", URL)
    assert shlex.split(made.local)[3] == "--model=$(rm -rf /); 'a' --x"
    assert yaml.safe_load(made.manifest)["spec"]["model"] == "$(rm -rf /); 'a' --x"
