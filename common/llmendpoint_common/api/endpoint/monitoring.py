"""Configuration of Prometheus: `spec.monitoring`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, Duration, Labels


class MonitoringMode(StrEnum):
    """Ways to configure Prometheus."""

    AUTO = "Auto"
    SERVICE_MONITOR = "ServiceMonitor"
    NONE = "None"


class Monitoring(ApiModel):
    """Configuration of Prometheus to scrape the pods."""

    mode: MonitoringMode = Field(
        MonitoringMode.AUTO,
        description="ServiceMonitor creates a ServiceMonitor, from which the Prometheus Operator configures "
        "Prometheus. If the cluster does not have this kind, the condition MonitoringReady is False. Auto does the "
        "same, but then the message of the condition also names the port to scrape. None creates nothing. Defaults to "
        "Auto.",
    )
    interval: Duration = Field(
        defaults.SCRAPE_INTERVAL,
        description="Interval at which Prometheus scrapes each pod, as a duration such as 15s. "
        f"Defaults to {defaults.SCRAPE_INTERVAL}.",
    )
    labels: Labels = Field(
        default_factory=dict,
        description="Additional labels of the ServiceMonitor. Set the labels that the serviceMonitorSelector of your "
        "Prometheus requires, for example release: prometheus.",
    )
