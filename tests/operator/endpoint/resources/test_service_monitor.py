"""The ServiceMonitor of an endpoint."""

from __future__ import annotations

from support.endpoints import children


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
