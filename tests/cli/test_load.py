"""`llmendpoint load` on a terminal, and its rules for runs on a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmendpoint_cli.cluster.loadtest import load_test
from llmendpoint_cli.cluster.names import ObjectName, parse_object_name
from llmendpoint_cli.commands.picker import plan
from llmendpoint_cli.main import main
from llmendpoint_cli.stack.process import process
from llmendpoint_cli.stack.state import read_stack
from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.contracts.loadrun.presets import Scenario
from llmendpoint_loadjob.settings import parse_settings
from support.machine.local_stack import LocalStack, free_ports, local_stack


class Terminal:
    """`llmendpoint` on a terminal of 40 columns."""

    def __init__(self, *arguments: str, columns: int = 40, **variables: str) -> None:
        self._master, slave = pty.openpty()
        environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"} | variables
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmendpoint_cli.main", *arguments],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.text = ""

    def until(self, words: str, seconds: float = 60, times: int = 1) -> None:
        """Read until the terminal has shown the words so many times."""
        end = time.monotonic() + seconds
        while self.plain.count(words) < times:
            assert time.monotonic() < end, self.text
            assert self._read(), f"{words!r} is not in {self.text!r}"

    @property
    def plain(self) -> str:
        """What was written to the terminal, without colours and movements of the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def close(self) -> None:
        """End the process, if a test has failed before its end."""
        if self.process.poll() is None:
            self.process.kill()
            self.end()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait(30)

    def screen(self) -> list[str]:
        """Return the lines that the terminal shows, without colours."""
        lines, row, column = [""], 0, 0
        for sequence, letter in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|(.)", self.text, re.DOTALL):
            if letter == "\r":
                column = 0
            elif letter == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif letter:
                lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
                column += 1
            elif sequence[-1] == "A":
                row = max(0, row - int(sequence[2:-1] or 1))
            elif sequence == "\x1b[2K":
                lines[row] = ""
        return [line.rstrip() for line in lines]

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], 60)
        try:
            data = os.read(self._master, 4096) if ready else b""
        except OSError:
            data = b""
        self.text += data.decode(errors="replace")
        return bool(data)


Terminals = Callable[..., Terminal]


@pytest.fixture
def terminal_of() -> Iterator[Terminals]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **settings: Any) -> Terminal:
            terminal = Terminal(*arguments, **settings)
            stack.callback(terminal.close)
            return terminal

        yield start


def test_without_arguments_a_scenario_is_picked_explained_and_run(terminal_of: Terminals, tmp_path: Path) -> None:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    arguments = ["--listen", f"127.0.0.1:{port}", "--ttft", "10ms", "--tokens", "2"]
    with process("llmendpoint_simulator", arguments, f"{url}/api/version"):
        terminal = terminal_of("load")
        terminal.until("Scenario")
        assert "background traffic" in " ".join(terminal.text.split())
        terminal.type("Smoke")
        terminal.until("URL of the model server")
        terminal.type(url)
        terminal.until("Model ")
        terminal.type("")
        terminal.until("Folder for the results")
        terminal.type(str(tmp_path))
        terminal.until("Run it?")
        shown = " ".join(terminal.text.split())
        assert "until 5 requests are answered" in shown
        assert "command: llmendpoint load --scenario=Smoke" in shown
        terminal.type("y")
        assert terminal.end() in (0, 98)
    assert json.loads((tmp_path / "summary.json").read_text())["requests"] == 5
    assert "5 requests in" in terminal.text


@pytest.fixture
def simulator() -> Iterator[str]:
    """A simulator that takes 300 ms for an answer, so that the live line is drawn several times."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    arguments = ["--listen", f"127.0.0.1:{port}", "--ttft", "300ms", "--tokens", "2"]
    with process("llmendpoint_simulator", arguments, f"{url}/api/version"):
        yield url


@pytest.mark.parametrize("columns", [40, 80])
def test_the_result_replaces_the_live_line(terminal_of: Terminals, simulator: str, columns: int) -> None:
    arguments = [f"--url={simulator}", "--model=simulated", "--max-requests=3", "--concurrency=1"]
    terminal = terminal_of("load", *arguments, columns=columns)
    terminal.until("in flight")
    terminal.end()
    screen = terminal.screen()
    assert not [line for line in screen if "in flight" in line]
    assert screen[0].startswith("simulated at http://"), screen
    assert "3 requests in" in " ".join(screen)


def test_logs_stand_above_the_live_line(terminal_of: Terminals, simulator: str, tmp_path: Path) -> None:
    arguments = [
        f"--url={simulator}",
        "--model=simulated",
        "--concurrency=1",
        "--duration=1h",
        f"--out={tmp_path / 'o'}",
    ]
    terminal = terminal_of("load", *arguments, columns=80)
    terminal.until("in flight")
    # At once: the load generator may be writing into the folder.
    (tmp_path / "o").rename(tmp_path / "elsewhere")
    terminal.until("could not write a partial")
    terminal.interrupt()
    assert terminal.end() == 1
    (line,) = (line for line in terminal.screen() if "could not write a partial" in line)
    assert "in flight" not in line


def test_the_picker_offers_what_the_variables_say(terminal_of: Terminals, simulator: str, tmp_path: Path) -> None:
    variables = {
        "LLMENDPOINT_LOAD_URL": simulator,
        "LLMENDPOINT_LOAD_OUT": str(tmp_path / "out"),
        "LLMENDPOINT_LOAD_MAX_REQUESTS": "2",
    }
    terminal = terminal_of("load", columns=200, **variables)
    for question in ("Scenario", f"URL of the model server ({simulator})", "Model (simulated", f"({tmp_path / 'out'})"):
        terminal.until(question)
        terminal.type("")
    terminal.until("Run it?")
    assert "until 2 requests are answered" in terminal.text
    terminal.type("y")
    assert terminal.end() in (0, 98)
    assert json.loads((tmp_path / "out/summary.json").read_bytes())["requests"] == 2


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack whose proxy needs an API key."""
    (tmp_path / "key").write_text("sk-1\n")
    with local_stack(tmp_path / "state") as stack:
        stack.up("--key", f"team-a={tmp_path / 'key'}", "--listen", f"127.0.0.1:{free_ports(1)[0]}")
        yield stack
        stack.down()


def test_the_picker_offers_the_proxy_of_the_stack_and_sends_its_key(
    terminal_of: Terminals, stack: LocalStack, tmp_path: Path
) -> None:
    up = read_stack(stack.folders)
    assert up is not None
    url = up.sidecars[0].proxy_url
    variables = {"LLMENDPOINT_STATE_DIR": str(stack.folders.root), "LLMENDPOINT_LOAD_MAX_REQUESTS": "2"}
    terminal = terminal_of("load", columns=200, **variables)
    for question in ("Scenario", f"URL of the model server ({url})", "Model (simulated:latest)"):
        terminal.until(question)
        terminal.type("")
    terminal.until("Folder for the results")
    terminal.type(str(tmp_path / "out"))
    terminal.until("Run it?")
    terminal.type("y")
    assert terminal.end() in (0, 98)
    summary = json.loads((tmp_path / "out/summary.json").read_bytes())
    assert (summary["requests"], summary["errors"]) == (2, 0)


def test_the_picker_says_that_a_server_needs_an_api_key(terminal_of: Terminals, stack: LocalStack) -> None:
    up = read_stack(stack.folders)
    assert up is not None
    url = up.sidecars[0].proxy_url
    for key, sentence in (("", "needs an API key"), ("sk-2", "refuses the API key")):
        terminal = terminal_of("load", columns=200, LLMENDPOINT_LOAD_URL=url, LLMENDPOINT_LOAD_API_KEY=key)
        for question in ("Scenario", "URL of the model server"):
            terminal.until(question)
            terminal.type("")
        terminal.until("Model:")
        said = " ".join(terminal.plain.split())
        assert f"{url} {sentence}" in said
        assert "LLMENDPOINT_LOAD_API_KEY_FILE" in said
        assert "sk-2" not in said
        terminal.type("\x04")
        assert terminal.end() == 130


def test_the_picker_does_not_ask_for_a_model_forever(terminal_of: Terminals) -> None:
    [port] = free_ports(1)
    terminal = terminal_of("load", columns=200, LLMENDPOINT_LOAD_URL=f"http://127.0.0.1:{port}")
    terminal.until("Scenario")
    terminal.type("Smoke")
    terminal.until("URL of the model server")
    terminal.type("")
    for attempt in range(1, 4):
        terminal.until("Model:", times=attempt)
        terminal.type("")
    assert terminal.end() == 2
    assert "llmendpoint load: no model was named; set --model" in terminal.text


def test_the_picker_asks_again_for_a_model_that_the_server_does_not_have(
    terminal_of: Terminals, simulator: str
) -> None:
    variables = {"LLMENDPOINT_LOAD_URL": simulator, "LLMENDPOINT_LOAD_MODEL": "llama9:1b"}
    terminal = terminal_of("load", columns=200, **variables)
    for question in ("Scenario", "URL of the model server", "Model (llama9:1b"):
        terminal.until(question)
        terminal.type("")
    terminal.until("The server does not have the model 'llama9:1b'. It has simulated:latest.")
    terminal.until("Model (simulated:latest)")
    terminal.type("simulated")
    terminal.until("Folder for the results")
    terminal.type("")
    terminal.until("--model=simulated:latest")
    terminal.type("\x04")
    assert terminal.end() == 130


def test_the_picker_can_be_left(terminal_of: Terminals, tmp_path: Path) -> None:
    terminal = terminal_of("load")
    terminal.until("Scenario")
    terminal.type("9")
    terminal.until("Please select one")
    terminal.type("\x04")
    assert terminal.end() == 130


@pytest.mark.parametrize(
    ("flags", "sentences"),
    [
        (["--concurrency=4", "--duration=2m"], "4 users, each with one request at a time, for 2m00s, to m at http://"),
        (["--scenario=Ramp"], "1 stage with up to 16 users for 10m00s"),
        (["--scenario=Traffic"], "0.2 requests/s until it is stopped"),
        (["--scenario=Sweep"], "A search for the highest rate at rates from 0.25 to 100 requests/s, 1m00s each"),
        (["--rate=2", "--warmup=10s", "--slo=error_rate=1%"], "A warm-up of 10s comes first and is not measured."),
    ],
)
def test_what_a_run_will_do_is_said(flags: list[str], sentences: str) -> None:
    assert sentences in " ".join(plan(parse_settings(["--model=m", *flags], environment={}).document))


@pytest.mark.parametrize("scenario", list(Scenario))
def test_every_scenario_can_be_run_on_a_cluster(scenario: Scenario) -> None:
    document = parse_settings(["--model=m:1", f"--scenario={scenario}", "--category=Math"], environment={}).document
    manifest = load_test(document, ObjectName("ns", "assistant"), "m:1", None)
    spec = parse_spec(manifest)
    found = run_document(spec, ResolvedTarget(document.target.url, Api.OLLAMA_CHAT, "m:1"))
    if document.load.stages:
        # Stages have durations of their own, and then that of the load means nothing.
        load = msgspec.structs.replace(found.load, duration_seconds=document.load.duration_seconds)
        found = msgspec.structs.replace(found, load=load)
    assert found == document


def test_the_options_of_a_run_reach_the_load_test() -> None:
    document = parse_settings(
        ["--model=m:1", "--rate=2.5", "--arrivals=gamma", "--burstiness=0.5", "--no-stream", "--max-tokens=5",
         "--temperature=0.7", "--timeout=1500ms", "--prefix-cache=unique", "--option=num_ctx=8192", "--body=think=false",
         "--header=X-Tenant: blue", "--in-order", "--slo=ttft:p95=250ms", "--slo=error_rate=1%", "--seed=4"],
        environment={},
    ).document  # fmt: skip
    spec = parse_spec(load_test(document, ObjectName("ns", "assistant"), "m:1", "smoke"))
    assert run_document(spec, ResolvedTarget(document.target.url, Api.OLLAMA_CHAT, "m:1")) == document


def test_names_of_objects() -> None:
    assert parse_object_name("ns/a") == ObjectName("ns", "a")
    assert str(parse_object_name("a.b")) == "a.b"
    for text in ("", "A", "a/b/c", "-a", "a/"):
        with pytest.raises(ValueError, match="is not a name; write it like default/nightly"):
            parse_object_name(text)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--endpoint=ns/a", "--url=http://x"], "--url cannot be combined with --endpoint; set it in the spec"),
        (["--endpoint=ns/a", "--trace=t"], "--trace cannot be combined with --endpoint"),
        (["--endpoint=A"], "--endpoint: 'A' is not a name"),
        (["--model=m", "--context=c"], "--context is only allowed with --endpoint"),
        (["--endpoint=ns/a", "--rate=1", "--concurrency=1"], "set only one of --concurrency"),
    ],
)
def test_wrong_options_are_refused(flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["load", *flags])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
