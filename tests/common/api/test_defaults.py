"""Defaults in the schema, in the descriptions, and in the programs that also have them."""

from __future__ import annotations

import pytest

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.metering import Metering, Timeouts
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec, parse_spec
from llmendpoint_common.api.endpoint.storage import Storage
from llmendpoint_common.process.units import parse_duration
from llmendpoint_sidecar.settings import parse_settings


def test_the_timeouts_of_a_spec_and_of_the_sidecar_are_the_same() -> None:
    settings = parse_settings([])
    assert settings.connect_timeout == parse_duration(defaults.CONNECT_TIMEOUT)
    assert settings.first_byte_timeout == parse_duration(defaults.FIRST_BYTE_TIMEOUT)
    assert settings.idle_timeout == parse_duration(defaults.IDLE_TIMEOUT)
    assert settings.keep_alive_timeout == parse_duration(defaults.KEEP_ALIVE_TIMEOUT)
    assert settings.workers == defaults.WORKERS
    assert settings.drain_delay == defaults.DRAIN_DELAY_SECONDS
    assert Timeouts() == Timeouts(connect="5s", first_byte="1h", idle="30m", keep_alive="5m")


def test_defaults_that_are_not_in_the_schema_are_filled_in_by_those_who_read() -> None:
    spec = parse_spec({"spec": {"models": [{"name": "tiny:latest"}]}})
    assert (spec.replicas, spec.wanted_replicas) == (None, 1)
    assert (spec.gpu, spec.wanted_gpu.devices, spec.wanted_gpu.device_resource) == (None, 1, "nvidia.com/gpu")
    assert (spec.monitoring.interval, spec.monitoring.scrape_interval) == (None, "15s")


@pytest.mark.parametrize(
    ("description", "default"),
    [
        (LLMEndpointSpec.model_fields["replicas"].description, "Defaults to 1."),
        (Storage.model_fields["size"].description, "Defaults to 50Gi."),
        (Metering.model_fields["max_waiting"].description, "Defaults to 256."),
        (Metering.model_fields["workers"].description, "Defaults to 1."),
        (Metering.model_fields["model_management"].description, "Defaults to Forbidden."),
        (Metering.model_fields["include_usage"].description, "Defaults to Passthrough."),
        (
            Metering.model_fields["resources"].description,
            "default to 100m CPU, 96Mi memory and 64Mi ephemeral storage, limits to 512Mi memory.",
        ),
    ],
)
def test_descriptions_name_the_default(description: str | None, default: str) -> None:
    assert description is not None
    assert default in description
