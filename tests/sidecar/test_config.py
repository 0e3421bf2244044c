"""The configuration file: one reload per change, applied to admission and to the model agent at the same moment."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, SidecarConfig
from llmendpoint_common.process.errors import ConfigError
from llmendpoint_sidecar.config import parse_config, read_config, watch_config
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

LOGGER = "llmendpoint_sidecar.config"


def document(*names: str, **fields: object) -> str:
    return json.dumps({"models": [{"name": name} for name in names], **fields})


def replace(path: Path, text: str) -> None:
    """Replace a file in one step, as kubelet does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


class Watched:
    """A file that is polled every millisecond, and the configurations that were applied."""

    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self.path = path
        self.applied: list[SidecarConfig] = []
        self._stack = stack

    async def start(self, current: SidecarConfig) -> None:
        task = asyncio.create_task(watch_config(self.path, current, self.applied.append, 0.001))

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(stop)

    def names(self) -> list[list[str]]:
        return [[model.name for model in config.models] for config in self.applied]


@pytest.fixture
def watched(tmp_path: Path, stack: AsyncExitStack) -> Watched:
    return Watched(tmp_path / "config.json", stack)


async def test_each_new_configuration_is_applied_once(watched: Watched) -> None:
    watched.path.write_text(document("a:1"))
    await watched.start(read_config(watched.path))
    replace(watched.path, document("b:1"))
    await eventually(lambda: watched.names() == [["b:1"]])
    replace(watched.path, document("c:1"))
    await eventually(lambda: watched.names() == [["b:1"], ["c:1"]])


async def test_a_change_between_start_and_first_poll_is_not_lost(watched: Watched) -> None:
    watched.path.write_text(document("b:1"))
    await watched.start(parse_config(document("a:1").encode()))
    await eventually(lambda: watched.names() == [["b:1"]])


async def test_an_invalid_or_missing_file_leaves_the_last_configuration(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.path.write_text(document("a:1"))
    await watched.start(read_config(watched.path))
    watched.path.write_text('{"modls": []}')
    await eventually(lambda: "modls" in caplog.text)
    assert "the previous configuration stays in use" in caplog.text
    watched.path.unlink()
    watched.path.write_text(document("b:1"))
    await eventually(lambda: watched.names() == [["b:1"]])


async def test_without_a_file_there_is_nothing_to_watch() -> None:
    await watch_config(None, SidecarConfig(), lambda config: None)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json: No such file"):
        read_config(tmp_path / "nowhere.json")
    (tmp_path / "config.json").write_text('{"models": [{"nam": "x"}]}')
    with pytest.raises(ConfigError, match=r"config\.json: .*nam"):
        read_config(tmp_path / "config.json")


async def test_one_reload_configures_admission_and_agent_at_the_same_moment(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.json"
    path.write_text(document("a:1"))
    simulator = await start_simulator(models=["a:1", "b:1"])
    sidecar = await start_sidecar(simulator.port, read_config(path), config=path)
    seen: list[tuple[bool, bool]] = []

    class Snapshot(logging.Handler):
        """Notes, each time a reload is logged, whether agent and admission have the new configuration."""

        def emit(self, record: logging.LogRecord) -> None:
            agent = [status.name for status in sidecar.status().models] == ["b:1"]
            seen.append((agent, not sidecar.proxy_service.admission.open))

    handler = Snapshot()
    with caplog.at_level(logging.INFO, LOGGER):
        logging.getLogger(LOGGER).addHandler(handler)
        try:
            replace(path, document("b:1", allowedHosts=["localhost"]))
            await eventually(lambda: [status.name for status in sidecar.status().models] == ["b:1"])
            await eventually(lambda: not sidecar.proxy_service.admission.open)
            await eventually(lambda: bool(seen))
        finally:
            logging.getLogger(LOGGER).removeHandler(handler)
    assert seen == [(True, True)]


def test_the_default_configuration_declares_nothing() -> None:
    assert parse_config(b"{}") == SidecarConfig()
    assert parse_config(document("a:1").encode()).models == (DeclaredModel("a:1"),)
