"""Writes a user unit of systemd that starts the stack (systemd.unit(5), systemd.service(5))."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import platformdirs

from llmendpoint_cli.stack.request import Request, options_of, variables_of_ollama
from llmendpoint_cli.stack.state import replace_private_file
from llmendpoint_common.diagnosis.commands import STATE_VARIABLE
from llmendpoint_common.diagnosis.facts import OutdatedUnit
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import StackError

_UNIT = "llmendpoint.service"
_PROGRAM = "llmendpoint"
_HEADER = "# Written by `llmendpoint up --service`."
#: Longer than all programs of a stack may take to end.
_STOP_SECONDS = 90
#: Variables of the environment that a unit keeps beside those of Ollama. PATH is needed to find Ollama and Prometheus.
_KEPT = (STATE_VARIABLE, "PATH")


def write_service(request: Request, say: Callable[[str], None]) -> int:
    """Write the unit for a request, and say how it is enabled. Return the exit code."""
    options = options_of(request.document())
    if sys.platform == "darwin":
        say(
            "macOS has no systemd. The programs of `llmendpoint up` keep running when the terminal closes. To start "
            f"them when you log in, let a LaunchAgent (`man launchd.plist`) run: {' '.join(_command(options))}"
        )
        return exit_codes.ERROR
    path = unit_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_private_file(path, unit_text(options, os.environ).encode())
    except OSError as error:
        raise StackError(f"{path}: the unit cannot be written: {error.strerror}") from error
    say(f"wrote {path}")
    say("enable and start it:  systemctl --user daemon-reload && systemctl --user enable --now llmendpoint")
    say("its output:           journalctl --user -u llmendpoint, and llmendpoint logs")
    say("end it:               systemctl --user stop llmendpoint")
    say("start it at boot, without a login:  loginctl enable-linger")
    return exit_codes.OK


def outdated_unit() -> OutdatedUnit | None:
    """Return the unit if the stack does not start with it, or if this version writes lines that it lacks."""
    path = unit_path()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not text.startswith(_HEADER):
        return None
    try:
        program, options, variables = _parsed(text)
    except ValueError:
        return None
    problem, is_broken = _problem_of(program), True
    if not problem:
        written = unit_text(options, variables).splitlines()
        # The user may have added lines, and another installation may have written the unit.
        if {line for line in written if not line.startswith("ExecStart=")} <= set(text.splitlines()):
            return None
        problem, is_broken = "was written by an earlier version, and lacks lines that this version writes", False
    again = {name: value for name, value in variables.items() if name != "PATH"}
    words = [*(f"{name}={shlex.quote(value)}" for name, value in again.items()), "llmendpoint", "up", "--service"]
    command = f"{' '.join(words)} {shlex.join(options)}".rstrip() + " && systemctl --user daemon-reload"
    return OutdatedUnit(str(path), problem, command, is_broken)


def _problem_of(program: str) -> str:
    """Return the problem with the program that a unit starts, as the end of a sentence, or an empty text."""
    if not Path(program).exists():
        return f"starts {program}, which does not exist"
    if program == sys.executable != _program()[0]:
        return f"starts {program}, which the next update removes"
    return ""


def _parsed(text: str) -> tuple[str, list[str], dict[str, str]]:
    """Return the program, the options of `up` and the variables of a unit. Raises ValueError if it has others."""
    values = [line.partition("=") for line in text.splitlines()]
    words = next((_unquoted(value.replace("$$", "$")) for name, _, value in values if name == "ExecStart"), [])
    kept = [pair for name, _, value in values if name == "Environment" for pair in _unquoted(value)]
    start = words.index("--foreground")
    return words[0], words[start + 1 :], {name: value for name, _, value in (pair.partition("=") for pair in kept)}


def _unquoted(text: str) -> list[str]:
    """Return the words that `_quoted` wrote."""
    return [word.replace("\\n", "\n") for word in shlex.split(text.replace("%%", "%"))]


def unit_path() -> Path:
    """Return the path of the unit."""
    configs = os.environ.get("XDG_CONFIG_HOME", "") or str(platformdirs.user_config_path())
    return Path(configs) / "systemd" / "user" / _UNIT


def unit_text(options: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the unit. Some variables of the environment are kept, so that the unit finds the same programs."""
    variables = {name: environment[name] for name in _KEPT if environment.get(name)}
    if STATE_VARIABLE in variables:
        # A unit has another working directory.
        variables[STATE_VARIABLE] = str(Path(variables[STATE_VARIABLE]).absolute())
    variables |= variables_of_ollama(environment)
    kept = [f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items()]
    lines = [
        _HEADER,
        "[Unit]",
        "Description=llmendpoint: a metered Ollama endpoint",
        "Documentation=https://github.com/llmendpoint/llmendpoint",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(_quoted(word).replace('$', '$$') for word in _command(options))}",
        *kept,
        "Restart=on-failure",
        "RestartSec=5s",
        # Only `up` gets SIGTERM. It ends the others in order, so that streams can finish.
        "KillMode=mixed",
        f"TimeoutStopSec={_STOP_SECONDS}s",
        "NoNewPrivileges=yes",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _command(options: Sequence[str]) -> list[str]:
    return [*_program(), "up", "--foreground", *options]


def _program() -> list[str]:
    """Return the command that runs this installation, also after an update.

    `install.sh`, like pipx and uv, replaces the folder of the packages at an update, and then the link to their
    program. So the link is used, by which the program was called or which is found in PATH.
    """
    installed = Path(sys.executable).with_name(_PROGRAM).resolve()
    called = [Path(name).absolute() for name in (sys.argv[0], shutil.which(_PROGRAM)) if name]
    links = [path for path in called if path.is_symlink() and path.resolve() == installed]
    return [str(links[0])] if links else [sys.executable, "-m", "llmendpoint_cli"]


def _quoted(word: str) -> str:
    """Return a word in the notation of systemd.syntax(7), with `%` doubled. In commands, `$` is doubled too."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{text}"' if not text or any(letter in text for letter in " \t\"'\\;#") else text
