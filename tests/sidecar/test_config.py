"""Files that change: one reload per change, applied to all parts at the same moment, and one line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from dataclasses import replace as with_fields
from pathlib import Path

import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, SidecarConfig
from llmendpoint_common.process.errors import ConfigError
from llmendpoint_sidecar.config import parse_config, read_config
from llmendpoint_sidecar.inputs.files import InputFiles, Inputs
from llmendpoint_sidecar.inputs.watch import InputWatch
from llmendpoint_sidecar.settings import parse_settings
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

LOGGER = "llmendpoint_sidecar.inputs.watch"


def document(*names: str, **fields: object) -> str:
    return json.dumps({"models": [{"name": name} for name in names], **fields})


def replace(path: Path, text: str) -> None:
    """Replace a file in one step, as kubelet does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


class Watched:
    """A configuration file and a folder of keys that are polled every millisecond, and what was applied."""

    def __init__(self, path: Path, keys: Path, stack: AsyncExitStack) -> None:
        self.path = path
        self.keys = keys
        self.applied: list[Inputs] = []
        self._stack = stack

    async def start(self, current: SidecarConfig) -> None:
        files = InputFiles(with_fields(parse_settings([]), config=self.path, keys=[self.keys]))
        task = asyncio.create_task(InputWatch(files, files.load(current), self._apply, 0.001).run())

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(stop)

    async def _apply(self, inputs: Inputs) -> None:
        self.applied.append(inputs)

    def names(self) -> list[list[str]]:
        return [[model.name for model in inputs.config.models] for inputs in self.applied]


@pytest.fixture
def watched(tmp_path: Path, stack: AsyncExitStack) -> Watched:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "a").write_text("key-of-a")
    return Watched(tmp_path / "config.json", keys, stack)


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


async def test_a_problem_is_logged_once_and_not_at_every_poll(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.path.write_text(document("a:1"))
    (watched.keys / "b").write_text("")
    await watched.start(read_config(watched.path))
    assert caplog.text.count("it is empty") == 1
    replace(watched.path, "{")
    await eventually(lambda: "the previous configuration stays in use" in caplog.text)
    replace(watched.path, document("b:1"))
    (watched.keys / "a").write_text("new-key-of-a")
    await eventually(lambda: watched.names()[-1:] == [["b:1"]])
    assert caplog.text.count("it is empty") == 1
    assert caplog.text.count("the previous configuration stays in use") == 1


async def test_a_change_of_file_and_keys_is_one_reload_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, keys = tmp_path / "config.json", tmp_path / "keys"
    path.write_text(document("a:1"))
    keys.mkdir()
    (keys / "a").write_text("key-of-a")
    applied: list[Inputs] = []

    async def apply(inputs: Inputs) -> None:
        applied.append(inputs)

    files = InputFiles(with_fields(parse_settings([]), config=path, keys=[keys]))
    watch = InputWatch(files, files.load(read_config(path)), apply)
    await watch.poll()
    assert not applied
    replace(path, document("b:1"))
    (keys / "b").write_text("key-of-b")
    with caplog.at_level(logging.INFO):
        await watch.poll()
        await watch.poll()
    assert len(applied) == 1
    assert [record.getMessage() for record in caplog.records] == [f"reloaded {path} and the API keys of 2 tenants"]


async def test_a_failure_to_apply_a_change_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.json"
    path.write_text(document("a:1"))
    seen: list[str] = []

    async def apply(inputs: Inputs) -> None:
        seen.append(inputs.config.models[0].name)
        if seen == ["b:1"]:
            raise ValueError("broken")

    files = InputFiles(with_fields(parse_settings([]), config=path))
    task = asyncio.create_task(InputWatch(files, files.load(read_config(path)), apply, 0.001).run())
    replace(path, document("b:1"))
    await eventually(lambda: "could not be applied" in caplog.text)
    replace(path, document("c:1"))
    await eventually(lambda: seen == ["b:1", "c:1"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_files_there_is_nothing_to_watch() -> None:
    files = InputFiles(parse_settings([]))

    async def apply(_: Inputs) -> None:
        raise AssertionError

    await InputWatch(files, files.load(SidecarConfig()), apply).run()


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
            replace(path, document("b:1", modelManagement="Forbidden"))
            await eventually(lambda: [status.name for status in sidecar.status().models] == ["b:1"])
            await eventually(lambda: not sidecar.proxy_service.admission.open)
            await eventually(lambda: bool(seen))
        finally:
            logging.getLogger(LOGGER).removeHandler(handler)
    assert seen == [(True, True)]


def test_the_default_configuration_declares_nothing() -> None:
    assert parse_config(b"{}") == SidecarConfig()
    assert parse_config(document("a:1").encode()).models == (DeclaredModel("a:1"),)
