"""The autoscaler: targets that hold the utilization, queries, and quantities."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from llmendpoint_operator.settings import Actuator
from support.in_memory.endpoints import SETTINGS, children

KEDA = replace(SETTINGS, actuator=Actuator.KEDA, prometheus_url="http://prometheus:9090")
HPA = replace(SETTINGS, actuator=Actuator.HPA)


def scaled_object(**scaling: Any) -> dict[str, Any]:
    found = children(KEDA, autoscaling={"maxReplicas": 9, **scaling})["ScaledObject/assistant"]
    return dict(found["spec"])


def pod_autoscaler(num_parallel: int = 1, **scaling: Any) -> dict[str, Any]:
    spec = {"autoscaling": {"maxReplicas": 9, **scaling}, "ollama": {"numParallel": num_parallel}}
    return dict(children(HPA, **spec)["HorizontalPodAutoscaler/assistant"]["spec"])


def targets(num_parallel: int, **scaling: Any) -> list[str]:
    metrics = pod_autoscaler(num_parallel, **scaling)["metrics"]
    return [metric["external"]["target"]["averageValue"] for metric in metrics]


def number(quantity: str) -> Fraction:
    """Return the value of a quantity. Kubernetes divides thousandths too, so that 69 / 690m is not above 100."""
    return Fraction(quantity[:-1]) / 1000 if quantity.endswith("m") else Fraction(quantity)


@given(parallel=st.integers(1, 64), percent=st.integers(1, 100), load=st.integers(1, 2000))
@example(parallel=1, percent=69, load=69)
def test_the_smallest_number_of_pods_that_is_not_above_the_utilization_is_wanted(
    parallel: int, percent: int, load: int
) -> None:
    # https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details
    pods = math.ceil(load / number(targets(parallel, targetUtilization=f"{percent}%")[0]))
    assert 100 * load <= percent * parallel * pods
    assert pods == 1 or 100 * load > percent * parallel * (pods - 1)


def test_quantities_are_written_as_the_api_server_returns_them() -> None:
    assert targets(1) == ["800m"]
    assert targets(5) == ["4"]
    assert targets(3, targetUtilization="75%", requestsWaiting=2) == ["2250m", "2"]


def test_keda_asks_for_the_requests_of_this_endpoint_alone() -> None:
    (trigger,) = scaled_object()["triggers"]
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": 'sum(avg_over_time(llmendpoint_num_requests_running{namespace="ns",llmendpoint="assistant"}[60s])) + '
        'sum(avg_over_time(llmendpoint_num_requests_waiting{namespace="ns",llmendpoint="assistant"}[60s]))',
        "threshold": "0.8",
        # Pods are not removed because Prometheus has lost its targets.
        "ignoreNullValues": "false",
    }
    assert trigger["metricType"] == "AverageValue"


def test_the_average_has_several_scrapes() -> None:
    found = children(KEDA, autoscaling={"maxReplicas": 2}, monitoring={"interval": "1m"})["ScaledObject/assistant"]
    assert "[240s]" in found["spec"]["triggers"][0]["metadata"]["query"]


def test_pods_are_removed_after_the_delay() -> None:
    assert pod_autoscaler(scaleDownDelay="1m30s")["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 90}}
    assert pod_autoscaler(scaleDownDelay="1ms")["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 1}}
    behavior = scaled_object()["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == {"scaleDown": {"stabilizationWindowSeconds": 300}}


def test_the_operator_writes_no_number_of_pods_with_an_autoscaler() -> None:
    for settings in (SETTINGS, KEDA, HPA):
        found = children(settings, autoscaling={"minReplicas": 2, "maxReplicas": 3})["StatefulSet/assistant"]
        assert "replicas" not in found["spec"]


def test_an_endpoint_has_no_autoscaler_unless_it_asks_for_one_and_the_operator_has_one() -> None:
    kinds = {name.partition("/")[0] for name in [*children(KEDA), *children(autoscaling={"maxReplicas": 3})]}
    assert not kinds & {"ScaledObject", "HorizontalPodAutoscaler"}
