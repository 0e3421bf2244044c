"""Configuration of Prometheus: `spec.monitoring`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import AddedLabels, ApiModel, Duration, rules


class MonitoringMode(StrEnum):
    """Ways to configure Prometheus."""

    AUTO = "Auto"
    SERVICE_MONITOR = "ServiceMonitor"
    POD_MONITOR = "PodMonitor"
    ANNOTATIONS = "Annotations"
    NONE = "None"


_WITHOUT_MONITOR = "has(self.mode) && self.mode in ['Annotations', 'None']"


# Prometheus reads 0 as its global interval, and does not start with one that it cannot parse.
_Interval = Annotated[
    Duration,
    Field(
        json_schema_extra=rules(
            (
                "!self.matches('[0-9]{7}') && duration(self) >= duration('1s') && duration(self) <= duration('1h')",
                "must be from 1s to 1h",
            )
        )
    ),
]


class Monitoring(ApiModel):
    """Configuration of Prometheus to scrape the pods."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"!({_WITHOUT_MONITOR}) || (!has(self.interval) && (!has(self.labels) || self.labels.size() == 0))",
                "interval and labels are properties of a ServiceMonitor or PodMonitor; remove them if mode is "
                "Annotations or None",
            ),
        )
    )

    mode: MonitoringMode = Field(
        MonitoringMode.AUTO,
        description="ServiceMonitor and PodMonitor create an object of this kind, from which the Prometheus Operator "
        "configures Prometheus. Annotations sets prometheus.io/scrape, prometheus.io/port and prometheus.io/path on "
        "the headless Service NAME-pods, for a Prometheus that discovers the endpoints of annotated Services. Auto "
        "uses the first of ServiceMonitor and PodMonitor that the cluster has, or Annotations if it has neither, and "
        "changes when a kind appears or goes. None creates nothing. The condition MonitoringReady says which one is "
        "used. Pods are never restarted because of this field. Defaults to Auto.",
    )
    interval: _Interval | None = Field(
        None,
        description="Interval at which Prometheus scrapes each pod, as a duration from 1s to 1h, such as 15s. It has "
        "an effect if a ServiceMonitor or PodMonitor is used; with annotations, Prometheus uses its own interval. "
        f"Defaults to {defaults.SCRAPE_INTERVAL}.",
    )
    labels: AddedLabels = Field(
        default_factory=dict,
        description="Additional labels of the ServiceMonitor or PodMonitor. Set the labels that the "
        "serviceMonitorSelector or podMonitorSelector of your Prometheus requires, for example release: prometheus.",
    )

    @property
    def scrape_interval(self) -> str:
        """The field `interval`, or its default."""
        return self.interval or defaults.SCRAPE_INTERVAL
