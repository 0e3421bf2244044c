"""Translation of the spec of an endpoint into the inputs of the processes, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec, parse_spec
from llmendpoint_common.api.translate.ollama_environment import ollama_environment
from llmendpoint_common.api.translate.sidecar_arguments import SidecarAddresses, sidecar_arguments
from llmendpoint_common.api.translate.sidecar_config import config_text, sidecar_config
from llmendpoint_common.contracts.sidecar import DeclaredModel, IncludeUsage, Load, Registry, SidecarConfig, StallConfig
from llmendpoint_sidecar.settings import Settings, parse_settings


def spec(**fields: Any) -> LLMEndpointSpec:
    return parse_spec({"spec": {"models": [{"name": "tiny:latest"}], **fields}})


def settings(keys: tuple[str, ...] = (), **fields: Any) -> Settings:
    """Return the sidecar's settings for the arguments."""
    return parse_settings(sidecar_arguments(spec(**fields), config_file="/c/models.json", key_folders=keys))


def test_models_are_declared_with_their_source() -> None:
    models = [
        {"name": "a:1", "source": {"registry": {"host": "r:5000", "repository": "library/a", "insecure": True}}},
        {"name": "b:1", "load": "OnDemand", "digest": f"sha256:{'1' * 64}"},
    ]
    config = sidecar_config(spec(models=models, gpu={"requireFullOffload": True}))
    assert config.models == (
        DeclaredModel("a:1", Load.PRELOAD, None, Registry("r:5000", "library/a", True)),
        DeclaredModel("b:1", Load.ON_DEMAND, f"sha256:{'1' * 64}"),
    )
    assert config.require_full_offload is True


def test_the_file_is_what_the_sidecar_reads() -> None:
    config = sidecar_config(spec(metering={"includeUsage": "Inject", "maxWaiting": 3}))
    assert msgspec.json.decode(config_text(config), type=SidecarConfig) == config
    assert config.max_waiting == 3
    assert config.include_usage is IncludeUsage.INJECT


def test_the_limit_of_a_stall_is_in_the_file_only_if_the_spec_has_it() -> None:
    config = sidecar_config(spec(metering={"stall": {"after": "45m"}}))
    assert msgspec.json.decode(config_text(config), type=SidecarConfig).stall == StallConfig("45m")
    # An older sidecar refuses a field that it does not know.
    assert "stall" not in config_text(sidecar_config(spec()))


@pytest.mark.parametrize(("restart", "file"), [(True, Path("/signals/restart")), (False, None)])
def test_a_restart_is_requested_only_if_the_spec_asks_for_it(restart: bool, file: Path | None) -> None:
    arguments = sidecar_arguments(
        spec(metering={"stall": {"restart": restart}}), config_file="/c/models.json", key_folders=[],
        restart_file="/signals/restart",
    )  # fmt: skip
    assert parse_settings(arguments).stall_restart_file == file


def test_an_exporter_has_models_and_no_policy() -> None:
    config = sidecar_config(spec(metering={"mode": "Exporter"}), ["a"])
    assert config == SidecarConfig(models=(DeclaredModel("tiny:latest"),))


def test_service_hosts_are_added_to_a_list_and_do_not_make_one() -> None:
    assert sidecar_config(spec(), ["a"]).allowed_hosts == ()
    assert sidecar_config(spec(metering={"allowedHosts": ["b"]}), ["a"]).allowed_hosts == ("b", "a")


def test_the_sidecar_understands_its_arguments() -> None:
    timeouts = {"connect": "1s", "firstByte": "2m", "idle": "3h", "keepAlive": "11m"}
    read = settings(("/k/0", "/k/1"), metering={"timeouts": timeouts}, ollama={"numParallel": 4})
    assert (read.connect_timeout, read.first_byte_timeout, read.idle_timeout) == (1, 120, 10800)
    assert read.keep_alive_timeout == 660
    assert read.keys == [Path("/k/0"), Path("/k/1")]
    assert read.config == Path("/c/models.json")
    assert read.parallel == 4
    assert read.exporter is False


def test_an_exporter_has_neither_keys_nor_timeouts() -> None:
    fields = {"metering": {"mode": "Exporter"}}
    arguments = sidecar_arguments(spec(**fields), config_file="/c", key_folders=["/k"])
    assert [argument.partition("=")[0] for argument in arguments] == [
        "--exporter", "--admin-listen", "--upstream", "--config", "--parallel", "--drain-delay", "--drain-timeout",
    ]  # fmt: skip


def test_addresses_are_parameters() -> None:
    addresses = SidecarAddresses("127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:3")
    read = parse_settings(sidecar_arguments(spec(), config_file="/c", key_folders=(), addresses=addresses))
    assert (read.listen.port, read.admin_listen.port, read.upstream.port) == (1, 2, 3)


@pytest.mark.parametrize(("grace", "drain"), [(300, 293), (10, 3)])
def test_streams_end_within_the_grace_period(grace: int, drain: int) -> None:
    read = settings(pod={"terminationGracePeriodSeconds": grace})
    assert (read.drain_delay, read.drain_timeout) == (5, drain)


FOLDERS = {"address": "h:1", "models_folder": "/m", "home_folder": "/h", "ca_folder": "/ca"}


def test_the_environment_of_ollama_has_what_the_spec_gives() -> None:
    variables = ollama_environment(spec(), **FOLDERS)
    assert variables == {
        "OLLAMA_HOST": "h:1", "OLLAMA_MODELS": "/m", "HOME": "/h", "OLLAMA_NUM_PARALLEL": "1", "OLLAMA_MAX_LOADED_MODELS": "32",
    }  # fmt: skip
    off = ollama_environment(spec(ollama={"flashAttention": False}), **FOLDERS)
    assert off["OLLAMA_FLASH_ATTENTION"] == "0"


def test_a_field_wins_over_its_variable_in_an_object_from_before_the_rule_against_it() -> None:
    """The sidecar gets the field, so both have to use the same value."""
    given = [{"name": "OLLAMA_NUM_PARALLEL", "value": "8"}, {"name": "OLLAMA_KEEP_ALIVE", "value": "1h"}]
    variables = ollama_environment(spec(ollama={"numParallel": 2, "env": given}), **FOLDERS)
    assert variables["OLLAMA_NUM_PARALLEL"] == "2"
    assert variables["OLLAMA_KEEP_ALIVE"] == "1h"


def test_a_bundle_is_read_beside_the_folders_that_go_reads_by_default() -> None:
    variables = ollama_environment(spec(ollama={"caBundleRef": {"name": "ca", "key": "ca.crt"}}), **FOLDERS)
    assert variables["SSL_CERT_DIR"] == "/ca:/etc/ssl/certs:/etc/pki/tls/certs"
    # It would replace the file with the certificates of the image.
    assert "SSL_CERT_FILE" not in variables
