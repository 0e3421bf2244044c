"""Settings of the simulator: the file with a behaviour, options that win over it, and wrong values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmendpoint_simulator.faults import Fault
from llmendpoint_simulator.latency import Gamma
from llmendpoint_simulator.settings import parse_bytes, parse_settings


def written(folder: Path, text: str) -> str:
    path = folder / "behaviour.json"
    path.write_text(text)
    return str(path)


def test_a_file_has_fields_of_the_behaviour_and_options_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, json.dumps({"ttft": 1, "tokens": 7, "parallel": 2, "sizes": {"a": 5}, "models": ["a"]}))
    monkeypatch.setenv("LLMENDPOINT_SIMULATOR_PARALLEL", "9")
    behaviour = parse_settings(["--behaviour", path, "--ttft", "2s"]).behaviour
    assert (behaviour.ttft, behaviour.tokens, behaviour.parallel) == (2.0, 7, 9)
    assert (behaviour.sizes, behaviour.models, behaviour.inter_token) == ({"a": 5}, ("a",), 0.02)


def test_options_have_distributions_sizes_and_faults() -> None:
    arguments = ["--ttft", "gamma:200ms:0.3", "--memory", "24GB", "--fault", "hang", "--pull-speed", "50MB"]
    behaviour = parse_settings(arguments).behaviour
    assert behaviour.ttft == Gamma(0.2, 0.3)
    assert (behaviour.memory, behaviour.pull_speed, behaviour.fault) == (24_000_000_000, 50e6, Fault.HANG)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("12", 12), ("1kB", 1000), ("1.5GiB", 3 * 2**29), ("24GB", 24 * 10**9), ("3B", 3)]
)
def test_sizes(text: str, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize(
    ("content", "arguments", "sentence"),
    [
        ("{", [], "is not a behaviour"),
        ('{"tokns": 1}', [], "tokns"),
        ('{"faults": [{"fault": "none", "probability": 3}]}', [], "faults[0].probability"),
        ("[]", [], "is not a behaviour"),
        ('{"capacity": 5}', [], "--behaviour: capacity and ttft_cv need a simulator with --known-latency"),
        ('{"faults": [{"fault": "reset", "route": "api/chat"}]}', [], "`route` is a path, such as /api/chat"),
        ("{}", ["--jitter", "2"], "jitter"),
        ("{}", ["--load-factor", "0.5"], "load_factor"),
        ("{}", ["--memory", "much"], "--memory: 'much' is not a size; write it like 500MB, 24GB or 1.5GiB"),
        ("{}", ["--ttft", "soon"], "--ttft: 'soon' is not a duration"),
        ("{}", ["--fault", "fire"], "--fault: 'fire' is not valid"),
    ],
)
def test_a_wrong_value_ends_with_a_sentence_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings(["--behaviour", written(tmp_path, content), *arguments])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_file_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--behaviour", str(tmp_path / "none.json")])
    assert "none.json: No such file or directory" in capsys.readouterr().err
