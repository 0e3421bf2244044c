"""Settings that depend on each other, and their errors."""

from __future__ import annotations

import pytest

from llmendpoint_operator.settings import Actuator, parse_settings


def test_keda_needs_the_address_of_prometheus(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_settings(["--autoscaling-actuator=KEDA"])
    assert stopped.value.code == 2
    assert "--autoscaling-actuator KEDA requires --prometheus-url" in capsys.readouterr().err
    children = parse_settings(["--autoscaling-actuator=KEDA", "--prometheus-url=http://prometheus:9090/"]).children
    assert (children.actuator, children.prometheus_url) == (Actuator.KEDA, "http://prometheus:9090")


def test_a_horizontal_pod_autoscaler_does_not() -> None:
    assert parse_settings(["--autoscaling-actuator=HPA"]).children.actuator is Actuator.HPA
    assert parse_settings([]).children.actuator is None


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://prometheus", "http://", "http://prometheus?x=1"])
def test_a_wrong_address_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings([f"--prometheus-url={url}"])
    assert "is not a URL" in capsys.readouterr().err
