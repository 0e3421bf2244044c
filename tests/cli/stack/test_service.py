"""The unit of systemd that `llmendpoint up --service` writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmendpoint_cli.commands import up
from llmendpoint_cli.stack import service
from llmendpoint_cli.stack.request import KeyFile, NamedUrl, Request, options_of
from llmendpoint_cli.stack.service import outdated_unit, unit_path, unit_text, write_service
from llmendpoint_common.process.units import Address


def test_the_unit_has_the_options_with_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LLMENDPOINT_UP_TRAFFIC", "2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("sk-1")
    assert up.main(["--service", "--listen", ":11435", "--key", "team-a=key"]) == 0
    unit = (tmp_path / "systemd" / "user" / "llmendpoint.service").read_text()
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert start == (
        f"ExecStart={sys.executable} -m llmendpoint_cli up --foreground --key=team-a={tmp_path}/key --listen=:11435 --traffic=2"
    )
    assert "systemctl --user enable --now llmendpoint" in capsys.readouterr().out
    assert "sk-1" not in unit


def test_the_unit_has_the_absolute_path_of_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    unit = unit_text([], {"LLMENDPOINT_STATE_DIR": "second"})
    assert f"Environment=LLMENDPOINT_STATE_DIR={tmp_path}/second" in unit.splitlines()


@pytest.mark.parametrize("is_called_by_its_path", [True, False], ids=["its path", "PATH"])
def test_the_unit_names_the_link_of_an_installation_whose_folder_an_update_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_called_by_its_path: bool
) -> None:
    program = tmp_path / "share" / "environment-1" / "bin" / "llmendpoint"
    link = tmp_path / "bin" / "llmendpoint"
    for folder in (program.parent, link.parent):
        folder.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    link.symlink_to(program)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python3")))
    monkeypatch.setattr(sys, "argv", [str(link if is_called_by_its_path else program)])
    monkeypatch.setenv("PATH", str(tmp_path if is_called_by_its_path else link.parent))
    assert f"ExecStart={link} up --foreground --listen=:11435" in unit_text(["--listen=:11435"], {}).splitlines()


def test_a_request_is_the_same_after_its_command_line() -> None:
    request = Request(upstreams=(NamedUrl("a", "http://h:1"), NamedUrl("b", "http://h:2")), keys=(KeyFile("t", Path("/k y")),),
                      listen=Address(None, 1), dashboard=False, traffic=0.5)  # fmt: skip
    flags = up.command_line()
    options = flags.parse(options_of(request.document()), environment={})
    assert up._request(flags, options, None) == request


def test_a_unit_of_this_version_is_not_outdated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_MODELS", "/a folder/50% $x")
    monkeypatch.setattr(sys, "platform", "linux")
    assert outdated_unit() is None
    write_service(Request(keys=(KeyFile("t", Path("/k $y")),), listen=Address(None, 1)), lambda _: None)
    assert outdated_unit() is None
    unit_path().write_text(f"{unit_path().read_text()}Alias=other.service\n")
    assert outdated_unit() is None
    unit_path().write_text("[Service]\nExecStart=/gone up\n")
    assert outdated_unit() is None


def test_an_outdated_unit_is_written_again_with_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_MODELS", "/a folder")
    monkeypatch.delenv("LLMENDPOINT_STATE_DIR", raising=False)
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    write_service(Request(listen=Address(None, 1)), lambda _: None)
    text = unit_path().read_text()
    command = "OLLAMA_MODELS='/a folder' llmendpoint up --service --listen=:1 && systemctl --user daemon-reload"
    unit_path().write_text(text.replace(sys.executable, f"{tmp_path}/environment-1/bin/python3"))
    gone = outdated_unit()
    assert gone is not None
    assert gone.problem == f"starts {tmp_path}/environment-1/bin/python3, which does not exist"
    assert (gone.command, gone.is_broken) == (command, True)
    unit_path().write_text(text.replace("KillMode=mixed\n", ""))
    lacking = outdated_unit()
    assert lacking is not None
    assert not lacking.is_broken
    assert "written by an earlier version" in lacking.problem
    unit_path().write_text(text)
    monkeypatch.setattr(service, "_program", lambda: ["/usr/bin/llmendpoint"])
    removed = outdated_unit()
    assert removed is not None
    assert removed.problem == f"starts {sys.executable}, which the next update removes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "llmendpoint.service"
    options = options_of(Request(keys=(KeyFile("t", Path('/a folder/100% "x" $HOME;')),)).document())
    unit.write_text(unit_text(options, {"PATH": "/usr/bin:/a b", "OLLAMA_HOST": "127.0.0.1:1", "HOME": "/root"}))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)], check=False, capture_output=True, text=True
    )
    # Without a session of systemd, its other units may be missing. Only complaints about ours count.
    complaints = [line for line in done.stderr.splitlines() if "llmendpoint.service" in line or str(unit) in line]
    assert complaints == []
    assert 'Environment="PATH=/usr/bin:/a b"' in unit.read_text()
    assert '"--key=t=/a folder/100%% \\"x\\" $$HOME;"' in unit.read_text()
    assert "HOME=/root" not in unit.read_text()


def test_the_unit_keeps_the_variables_of_ollama_without_secret_ones() -> None:
    environment = {"OLLAMA_HOST": "127.0.0.1:1", "OLLAMA_MODELS": "/a b", "OLLAMA_NUM_PARALLEL": "4",
                   "OLLAMA_API_KEY": "secret", "OLLAMA_ORIGINS": ""}  # fmt: skip
    lines = [line for line in unit_text([], environment).splitlines() if line.startswith("Environment=")]
    assert lines == [
        "Environment=OLLAMA_HOST=127.0.0.1:1",
        'Environment="OLLAMA_MODELS=/a b"',
        "Environment=OLLAMA_NUM_PARALLEL=4",
    ]


def test_macos_is_told_what_is_there_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    said: list[str] = []
    assert write_service(Request(), said.append) == 1
    assert "LaunchAgent" in said[0]
