"""The ServiceMonitor of an endpoint."""

from __future__ import annotations

import pytest

from llmendpoint_operator.settings import ChildSettings, parse_settings
from support.in_memory.endpoints import SETTINGS, children


def test_only_the_headless_service_is_scraped() -> None:
    found = children()
    wanted = found["ServiceMonitor/assistant"]["spec"]["selector"]["matchLabels"].items()
    assert wanted <= found["Service/assistant-pods"]["metadata"]["labels"].items()
    assert not wanted <= found["Service/assistant"]["metadata"]["labels"].items()


def test_interval_and_labels_come_from_the_spec() -> None:
    monitor = children(monitoring={"interval": "30s", "labels": {"release": "p"}})["ServiceMonitor/assistant"]
    (scrape,) = monitor["spec"]["endpoints"]
    assert (scrape["port"], scrape["interval"]) == ("metrics", "30s")
    assert monitor["metadata"]["labels"]["release"] == "p"


def test_labels_of_the_spec_do_not_replace_those_of_the_operator() -> None:
    labels = {"llmendpoint.dev/endpoint": "other"}
    monitor = children(monitoring={"labels": labels})["ServiceMonitor/assistant"]
    assert monitor["metadata"]["labels"]["llmendpoint.dev/endpoint"] == "assistant"


def test_labels_of_the_operator_are_on_every_monitor_and_those_of_the_spec_win() -> None:
    flags = ["--monitor-label", "release=prometheus", "--monitor-label", "team.example.com/owner=ml"]
    settings = ChildSettings(SETTINGS.images, monitor_labels=parse_settings(flags).children.monitor_labels)
    labels = children(settings)["ServiceMonitor/assistant"]["metadata"]["labels"]
    assert (labels["release"], labels["team.example.com/owner"]) == ("prometheus", "ml")
    own = children(settings, monitoring={"labels": {"release": "other"}})["ServiceMonitor/assistant"]["metadata"][
        "labels"
    ]
    assert (own["release"], own["team.example.com/owner"]) == ("other", "ml")


@pytest.mark.parametrize(
    "name",
    ["llmendpoint.dev/endpoint", "llmendpoint.dev/team", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"],
)
def test_a_flag_with_a_label_that_the_operator_sets_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings([f"--monitor-label={name}=a"])
    assert ended.value.code == 2
    assert f"--monitor-label: {name!r} cannot be set: the operator sets the labels" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["release", "=a", "a b=c", "release=a b", "-a=b", "a/b/c=d"])
def test_a_flag_that_is_not_a_label_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings([f"--monitor-label={text}"])
    assert ended.value.code == 2
    assert "write NAME=VALUE" in capsys.readouterr().err
