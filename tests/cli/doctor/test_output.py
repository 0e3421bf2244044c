"""The report as text and as JSON."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from llmendpoint_cli.commands import doctor
from llmendpoint_cli.doctor.machine import places_of
from llmendpoint_cli.doctor.output import Format, print_report
from llmendpoint_common.diagnosis.checks import Check, CheckState
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity

NAME = "a-team-with-a-long-name/an-assistant-with-a-long-name"
CHECKS = (
    Check("Ollama", CheckState.OK, "0.17.4 at 127.0.0.1:11434"),
    Check("models", CheckState.WRONG, "see below"),
    Check("Prometheus", CheckState.NOT_CHECKED, "none answers; it is optional"),
    Check(NAME, CheckState.OK, "1 of 1 replicas are ready to serve requests."),
)
COMMAND = 'kubectl -n team-a patch llm assistant --type=merge -p \'{"spec": {"monitoring": {}}}\''
FINDING = Finding(
    Severity.ERROR, Cause.MODEL_MISSING, "a:1b", "Ollama does not have the model a:1b.", "Pull it.", COMMAND
)
NOTE = Finding(Severity.INFO, "Starting", "LLMEndpoint a/b", "No replica is ready yet.")


def text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: Sequence[Finding], width: int = 80
) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    print_report(CHECKS, findings, Format.TEXT)
    return capsys.readouterr().out


def test_the_report_says_what_was_checked_and_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = text(monkeypatch, capsys, [FINDING, NOTE]).splitlines()
    assert lines[:3] == [
        "ok    Ollama       0.17.4 at 127.0.0.1:11434",
        "wrong models       see below",
        "-     Prometheus   none answers; it is optional",
    ]
    assert lines[3:5] == [f"ok    {NAME}", "      1 of 1 replicas are ready to serve requests."]
    assert lines[6:10] == [
        "error: ModelMissing (a:1b)",
        "  Ollama does not have the model a:1b.",
        "  Pull it.",
        f"  $ {COMMAND}",
    ]
    assert lines[-1] == "1 thing is wrong."


def test_nothing_but_notes_is_nothing_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text(monkeypatch, capsys, [NOTE]).splitlines()[-1] == "Nothing is wrong."


def test_only_commands_and_names_are_wider_than_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command is copied as a whole."""
    report = text(monkeypatch, capsys, [FINDING], 40)
    wide = [line for line in report.splitlines() if cell_len(line) > 40]
    assert wide == [f"ok    {NAME}", f"  $ {COMMAND}"]


def test_a_pipe_gets_neither_colours_nor_spaces_at_ends_of_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = text(monkeypatch, capsys, [FINDING, NOTE], 40)
    assert "\x1b" not in report
    assert all(line == line.rstrip() for line in report.splitlines())


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_report(CHECKS, [FINDING], Format.TEXT)
    assert "\x1b[31mwrong\x1b[0m" in terminal.getvalue()


def test_json_has_checks_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(CHECKS, [FINDING], Format.JSON)
    report = json.loads(capsys.readouterr().out)
    assert report["findings"] == [
        {
            "severity": "error",
            "cause": "ModelMissing",
            "subject": "a:1b",
            "sentence": "Ollama does not have the model a:1b.",
            "advice": "Pull it.",
            "command": COMMAND,
        }
    ]
    assert report["checks"][2] == {
        "name": "Prometheus",
        "state": "not checked",
        "words": "none answers; it is optional",
    }


def test_the_help_says_what_the_exit_code_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 nothing is wrong, 1 something is wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["a/b/c"],
        ["--ollama", "ftp://a"],
        ["--ollama", "http://a:99999"],
        ["--sidecar", "a="],
        ["--context-length", "0"],
    ],
)
def test_a_wrong_option_ends_with_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        doctor.main(arguments)
    assert ended.value.code == 2
    assert "llmendpoint doctor: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a=http://h:1/", ("a", "http://h:1")), ("h:1", ("ollama", "http://h:1")), ("=h:1", ("ollama", "http://h:1"))],
)
def test_the_name_and_the_scheme_of_a_sidecar_are_optional(text: str, expected: tuple[str, str]) -> None:
    assert doctor.parse_sidecar(text) == expected


def test_ollama_is_not_looked_for_at_our_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:11435")
    options = doctor.command_line().parse([], environment={})
    assert [ollama.url for ollama in places_of(options, None).ollamas] == ["http://127.0.0.1:11434"]
