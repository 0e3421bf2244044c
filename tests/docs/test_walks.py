"""Commands of pages about one machine, as a reader types them: in order, on the default ports, without an Ollama.

They run in a network namespace of their own. Durations are shortened; nothing else is changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.documents.documented import ROOT, Block, blocks_of, commands_of
from support.machine.private_network import PrivateNetwork, clean_environment, private_network
from support.waiting import wait_until

PAGES = (
    "README.md",
    "docs/index.md",
    "docs/setup.md",
    "docs/one-machine.md",
    "docs/doctor.md",
    "docs/dashboard.md",
    "docs/load-tests.md",
    "docs/questions.md",
    "docs/reports.md",
    "docs/simulator.md",
    "docs/troubleshooting.md",
    "docs/how-to/clients.md",
    "docs/how-to/load-test-in-ci.md",
)
#: Programs that are run. The others need a cluster, a registry or the Internet, and other tests cover them.
_RUN = {"llmendpoint", "curl", "grep", "python"}
#: Commands that need a cluster or a host that does not exist, and a sweep, which takes minutes (tests/loadjob runs it).
_NOT_HERE = re.compile(
    r"--endpoint|--sweep|\b(default|team-a)/|--context production|https://llm\.example\.com|:8000/v1|results compare default"
    r"|127\.0\.0\.1:9090/api|scripts/draw_dashboards|--service|localhost:8080/readyz"
)
#: Programs that run until they are stopped.
_STAYS = re.compile(r"^(llmendpoint|\S*/llmendpoint) (simulate|sidecar)\b|^python -m ")
#: What a command ends with if it works: its objectives are judged on a shortened run, and the doctor finds something.
_CODES = {"load": (0, 98, 99), "demo": (0, 98, 99), "results": (0, 98, 99), "doctor": (0, 1)}
_DURATIONS = (
    (re.compile(r"(--duration) \d+[smh]"), r"\1 2s"),
    (re.compile(r"(--stage) \d+[smh]"), r"\1 1s"),
    (re.compile(r"(--sessions \d+ --think-time) \S+"), r"\1 100ms --duration 2s"),
    (re.compile(r"(--scenario \w+)"), r"\1 --duration 4s"),
    (re.compile(r"(--arrivals poisson)$"), r"\1 --duration 2s"),
    (re.compile(r"(--category Coding)$"), r"\1 --duration 2s"),
)


class Line(NamedTuple):
    """A line that is typed: the file with its number, and the text."""

    place: str
    text: str


class Machine:
    """A machine without an Ollama, in whose shell the lines of a page are typed."""

    def __init__(self, network: PrivateNetwork, folder: Path) -> None:
        self.network = network
        self.folder = folder / "work"
        self.staying: list[subprocess.Popen[bytes]] = []
        programs = folder / "bin"
        for path in (self.folder, programs):
            path.mkdir()
        paths = [
            str(ROOT / name) for name in ("common", "sidecar", "operator", "loadjob", "simulator", "dashboard", "cli")
        ]
        for name, words in (("llmendpoint", "-m llmendpoint_cli"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = {**clean_environment(folder, programs), "PYTHONPATH": os.pathsep.join(paths)}
        self._put_files()

    def _put_files(self) -> None:
        """Put files here that the pages suppose a reader to have."""
        for name in ("manifests", "questions", "charts", "Makefile", "VERSION"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / ".venv").mkdir()
        (self.folder / ".venv/bin").symlink_to(self.folder.parent / "bin")
        (self.folder / "build/site").mkdir(parents=True)
        (self.folder / "runs").mkdir()
        shutil.copy(ROOT / "manifests/samples/llmendpoint.yaml", self.folder / "llmendpoint.yaml")
        (self.folder / "keys").mkdir()
        (self.folder / "keys/team-a.txt").write_text("secret-of-team-a\n")
        (self.folder / "my-questions").mkdir()
        questions = ROOT / "questions/coding.yaml"
        (self.folder / "my-questions/mine.yaml").write_text(questions.read_text())
        (self.folder / "run.json").write_text(
            '{"target": {"url": "http://127.0.0.1:11435"}, "model": "m", "load": {"concurrency": 1, "durationSeconds": 1}}'
        )
        (self.folder / "conversation.jsonl").write_text(
            '{"timestamp": 0, "input_length": 20, "output_length": 5, "hash_ids": [1]}\n'
            '{"timestamp": 500, "input_length": 20, "output_length": 5, "hash_ids": [2]}\n'
        )

    def type(self, line: Line) -> None:
        """Run a line. It must work."""
        if _STAYS.match(line.text):
            self._start(line)
            return
        if re.match(r"llmendpoint up\b", line.text):
            self.run("llmendpoint down")
        done = self.run(shortened(line.text))
        word = line.text.split()[1] if "llmendpoint" in line.text.split()[0] else ""
        assert done.returncode in _CODES.get(word, (0,)), f"{line.place}: {line.text}\n{done.stdout}{done.stderr}"

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a line to its end."""
        return self.network.shell(text, self.folder, self.environment, timeout=60)

    def _start(self, line: Line) -> None:
        self.leave()
        port = re.search(r" (\d{4})$", line.text)
        address = f"http://127.0.0.1:{port[1] if port else '11434' if 'simulate' in line.text else '3001'}/"
        command = self.network.command("bash", "-uc", f"exec {line.text}")
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.staying.append(process)
        wait_until(lambda: process.poll() is not None or self.run(f"curl -s {address}").returncode == 0)
        assert process.poll() is None, f"{line.place}: {line.text}"

    def simulate(self) -> None:
        """Put a model server on port 11434, which has the models of the pages."""
        models = " ".join(f"--model {name}" for name in ("llama3.2:3b", "llama3.2:1b", "m"))
        self._start(Line("", f"llmendpoint simulate {models} --ttft 1ms --inter-token 1ms"))

    def leave(self) -> None:
        """End what was started."""
        for process in self.staying:
            process.terminate()
            process.wait(20)
        self.staying.clear()


def shortened(text: str) -> str:
    for pattern, replacement in _DURATIONS:
        if "--duration" in replacement and "--duration" in text:
            continue
        text = pattern.sub(replacement, text)
    return text


def runnable(block: Block) -> list[Line]:
    found = {command.number: command for command in reversed(commands_of(block))}
    return [
        Line(f"{block.page.relative_to(ROOT)}:{number}", text)
        for number, text in block.script
        if number in found and found[number].program in _RUN and not _NOT_HERE.search(text)
    ]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with contextlib.ExitStack() as stack:
        try:
            network = stack.enter_context(private_network())
        except OSError as error:
            message = f"COMMANDS OF PAGES DID NOT RUN: no network namespace here ({error})"
            if os.environ.get("CI") == "true":
                pytest.fail(message, pytrace=False)
            pytest.skip(message)
        machine = Machine(network, tmp_path)
        stack.callback(machine.leave)
        stack.callback(lambda: machine.run("llmendpoint down --timeout 1s"))
        yield machine


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(machine: Machine, page: str) -> None:
    blocks = [lines for block in blocks_of(ROOT / page) if (lines := runnable(block))]
    assert blocks
    machine.simulate()
    # On one page, the dashboard is started by hand, and on another one, results of two runs are compared.
    usual = "llmendpoint up --no-dashboard" if page == "docs/dashboard.md" else "llmendpoint up"
    machine.run(usual)
    if page == "docs/reports.md":
        machine.run("llmendpoint load --model m --duration 1s --out before")
        machine.run("llmendpoint load --model m --duration 1s --out after")
    for lines in blocks:
        for line in lines:
            machine.type(line)
        if any(line.text.startswith("llmendpoint up -") for line in lines):  # the next block is about the usual stack
            machine.run(f"llmendpoint down; {usual}")


def test_a_command_that_fails_is_noticed(machine: Machine) -> None:
    with pytest.raises(AssertionError, match=r"page:7: llmendpoint load --modle m"):
        machine.type(Line("page:7", "llmendpoint load --modle m"))
    with pytest.raises(AssertionError, match="page:8"):
        machine.type(Line("page:8", "curl -sf http://127.0.0.1:1"))
