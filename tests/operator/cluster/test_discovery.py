"""Kinds that the cluster does not have: reported once, and watched again when a refused write shows their loss."""

from __future__ import annotations

import pytest

from llmendpoint_operator.cluster.discovery import Discovery


def test_a_kind_that_goes_and_comes(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[str] = []
    discovery = Discovery()
    discovery.on_lost = lost.append
    discovery.not_found("ServiceMonitor")
    discovery.not_found("ServiceMonitor")
    assert discovery.missing == {"ServiceMonitor"}
    assert lost == []
    discovery.found("ServiceMonitor")
    discovery.lost("ServiceMonitor")
    discovery.lost("ServiceMonitor")
    assert lost == ["ServiceMonitor"]
    assert caplog.text.count("does not have the kind ServiceMonitor") == 2
