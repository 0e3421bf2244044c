"""The recording of a terminal in the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from record import COMMANDS
from recording.drawing import svg
from recording.terminal import PROMPT, Event, record

from support.documents.documented import ROOT

RECORDING = ROOT / "docs/images/recording.svg"
TEXT = "{http://www.w3.org/2000/svg}text"


def texts(drawing: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(drawing).iter(TEXT)]


def test_a_frame_shows_what_a_terminal_shows() -> None:
    events = [
        Event(0, PROMPT),
        Event(0.5, "run\r\n"),
        Event(1, " 10 %\r 20 %"),
        Event(2, "\r\x1b[2K\x1b[32mdone\x1b[0m <&>\r\n"),
    ]
    drawing = svg(events, 40, 4, 'A "terminal"')
    assert texts(drawing) == ["$", "$run", "20 %", "done<&>"]
    assert 'fill="#7ee787"' in drawing
    assert "@keyframes film" in drawing
    assert "prefers-reduced-motion" in drawing


def test_a_command_is_typed_and_its_output_follows(tmp_path: Path) -> None:
    events = record(["printf 'one\\ntwo\\n'"], tmp_path, dict(os.environ))
    said = "".join(event.text for event in events)
    assert said == f"{PROMPT}printf 'one\\ntwo\\n'\r\none\r\ntwo\r\n{PROMPT}"
    assert [event.seconds for event in events] == sorted(event.seconds for event in events)


def test_a_command_that_fails_ends_the_recording(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        record(["exit 3"], tmp_path, dict(os.environ))


def test_the_recording_shows_the_commands_and_a_verdict_and_loads_nothing() -> None:
    drawing = RECORDING.read_text(encoding="utf-8")
    shown = "\n".join(re.sub(r"\s+", " ", text) for text in texts(drawing))
    for command in COMMANDS:
        assert f"${command}" in shown
    assert "Passed" in shown
    assert not re.search(r"href=\"(?!#)|url\(|<script|@import", drawing)
    assert RECORDING.stat().st_size < 300 * 1024


def test_the_options_are_described() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/record.py", "--help"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--cast" in done.stdout
