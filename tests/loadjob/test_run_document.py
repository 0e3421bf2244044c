"""Run documents: equal from flags and from a LoadTest, and an invalid one is rejected with file and field."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.loadrun import (
    METRICS,
    Api,
    MetricName,
    Objective,
    RunDocument,
    RunLoad,
    RunTarget,
    parse_run_document,
    write_run_document,
)
from llmendpoint_common.contracts.loadrun.notation import parse_objective
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import RunDocumentError
from llmendpoint_loadjob.main import main
from llmendpoint_loadjob.settings import parse_settings
from support.servers import StartSimulator

SMALLEST = {"target": {"url": "http://x:1"}, "model": "m:1", "load": {"concurrency": 1}}


def of_flags(*flags: str) -> RunDocument:
    return parse_settings(["--url=http://x:1", "--model=m:1", *flags]).document


def of_loadtest(api: Api = Api.OLLAMA_CHAT, **spec: Any) -> RunDocument:
    parsed = parse_spec({"spec": {"endpointRef": {"name": "a"}, **spec}})
    return run_document(parsed, ResolvedTarget("http://x:1", api, "m:1"))


def test_defaults_of_flags_and_of_a_loadtest_are_the_same() -> None:
    assert of_flags() == of_loadtest() == RunDocument(RunTarget("http://x:1"), "m:1", RunLoad(concurrency=1))
    assert of_flags("--rate=1") == of_loadtest(load={"rate": "1"})


def test_flags_and_a_loadtest_give_the_same_document() -> None:
    flags = of_flags(
        "--api=openai-chat", "--rate=2.5", "--arrivals=constant", "--duration=1m", "--warmup=5s", "--max-requests=9",
        "--seed=7", "--category=Math", "--category=Coding", "--in-order", "--no-stream", "--max-tokens=64",
        "--temperature=0.7", "--timeout=90s", "--slo=ttft:p95=1s", "--slo=tpot:p95=50ms",
        "--slo=request_latency:p99=30s", "--slo=error_rate=1%", "--slo=attainment=95%",
    )  # fmt: skip
    assert flags == of_loadtest(
        Api.OPENAI_CHAT,
        load={"rate": "2.5", "arrivals": "Constant", "duration": "60s", "warmup": "5s", "maxRequests": 9, "seed": 7},
        dataset={"questions": {"categories": ["Math", "Coding"], "order": "Sequential"}},
        request={"stream": False, "maxTokens": 64, "temperature": "0.7", "timeout": "1m30s"},
        slo=[
            {"metric": "TTFT", "percentile": 95, "threshold": "1s"},
            {"metric": "TPOT", "percentile": 95, "threshold": "50ms"},
            {"metric": "RequestLatency", "percentile": 99, "threshold": "30s"},
            {"metric": "ErrorRate", "threshold": "1%"},
            {"metric": "Attainment", "threshold": "95%"},
        ],
    )
    assert parse_run_document(write_run_document(flags).encode(), "run.json") == flags


def test_a_document_replaces_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(SMALLEST))
    monkeypatch.setenv("LLMENDPOINT_LOAD_API_KEY", "secret-1")
    settings = parse_settings([f"--run={path}", "--questions=q", "--out=o", "--log-level=debug"])
    assert settings.document == of_flags()
    assert (settings.api_key, settings.questions, settings.out) == ("secret-1", (Path("q"),), Path("o"))


def test_a_document_and_flags_that_describe_a_run_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(SMALLEST))
    monkeypatch.setenv("LLMENDPOINT_LOAD_SEED", "2")
    with pytest.raises(SystemExit) as ended:
        main([f"--run={path}", "--rate=2", "--slo=error_rate=1%", "--no-stream", "--duration=30s"])
    assert ended.value.code == 2
    sentence = "--run cannot be combined with --rate, --duration, --seed, --no-stream, --slo"
    assert capsys.readouterr().err.startswith(f"llmendpoint_loadjob: {sentence}\n")


def wrong(**changes: Any) -> str:
    return json.dumps({**SMALLEST, **changes})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `target`"),
        (wrong(speed=1), "unknown field `speed`"),
        (wrong(load={"concurrency": 1, "speed": 1}), "load: .*unknown field `speed`"),
        (wrong(load={"rate": 0}), "load.rate: Expected `float` > 0"),
        (wrong(load={"concurrency": "many"}), "load.concurrency: Expected `int"),
        (wrong(load={"concurrency": 10**21}), "load.concurrency: Expected `int"),
        (wrong(load={}), "set one of load.concurrency, "),
        (wrong(load={"rate": 1, "concurrency": 1}), "load: set only one of concurrency, "),
        (wrong(load={"concurrency": 1, "arrivals": "poisson"}), "load: arrivals is only allowed with a rate"),
        (wrong(model=""), "model: Expected `str` of length >= 1"),
        (wrong(target={"url": "ftp://x"}), "target.url: 'ftp://x' is not a URL"),
        (wrong(target={"url": "http://x:99999"}), "target.url: .*Port out of range"),
        (wrong(objectives=[{"metric": "Speed", "threshold": 1}]), r"objectives\[0\].metric: Invalid enum value"),
        (wrong(objectives=[{"metric": "TTFT", "threshold": 1}]), r"objectives\[0\]: percentile is required for TTFT"),
        (
            wrong(objectives=[{"metric": "ErrorRate", "threshold": 1, "percentile": 9}]),
            "percentile is not allowed for ErrorRate",
        ),
        (wrong(objectives=[{"metric": "ErrorRate", "threshold": 1.5}]), "must be a fraction from 0 to 1"),
        (
            wrong(objectives=[{"metric": "TTFT", "threshold": 1e300, "percentile": 95}]),
            r"objectives\[0\]: the threshold of TTFT must be at most 720h",
        ),
        (wrong()[:-1] + ', "model": "other"}', "the field 'model' is repeated in one object"),
        (
            wrong(load={"concurrency": 1}).replace('{"conc', '{"seed": 1, "seed": 2, "conc'),
            "the field 'seed' is repeated",
        ),
    ],
)
def test_a_wrong_document_is_refused_with_file_and_field(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    assert main([f"--run={path}"]) == 2
    error = capsys.readouterr().err
    with pytest.raises(RunDocumentError, match=rf"^{path}: .*{sentence}"):
        parse_settings([f"--run={path}"])
    assert error.startswith(f"llmendpoint_loadjob: {path}: ")
    assert error.count("\n") == 1


async def test_the_process_runs_a_document(start_simulator: StartSimulator, tmp_path: Path) -> None:
    simulator = await start_simulator()
    document = RunDocument(RunTarget(simulator.url), "simulated", RunLoad(concurrency=2, max_requests=4, seed=7))
    (tmp_path / "run.json").write_text(write_run_document(document))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_loadjob", f"--run={tmp_path}/run.json", f"--out={tmp_path}",
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    # On a busy machine, the load generator may be the bottleneck, which makes the run Invalid.
    assert await process.wait() in (exit_codes.OK, exit_codes.INVALID)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["target"], summary["model"], summary["seed"]) == (simulator.url, "simulated", 7)
    assert (summary["requests"], summary["errors"]) == (4, 0)


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run=/nowhere/run.json"]) == 2
    assert capsys.readouterr().err == "llmendpoint_loadjob: /nowhere/run.json: No such file or directory\n"


def test_the_example_of_the_documentation_can_be_used() -> None:
    text = (Path(__file__).parents[2] / "docs/load-tests.md").read_text()
    example = text.partition("```json\n")[2].partition("```")[0]
    document = parse_run_document(example.encode(), "load-tests.md")
    assert document.objectives == (Objective(MetricName.TTFT, 1.0, 95), Objective(MetricName.ERROR_RATE, 0.01))


def test_every_metric_is_in_the_table_and_its_flag_is_understood() -> None:
    assert set(METRICS) == set(MetricName)
    for name, metric in METRICS.items():
        if metric.is_latency:
            assert parse_objective(f"{metric.flag}:p90=250ms") == Objective(name, 0.25, 90)
        else:
            assert parse_objective(f"{metric.flag}=5%") == Objective(name, 0.05)
        assert metric.parse(metric.format(0.25)) == 0.25
    assert METRICS[MetricName.ATTAINMENT].meets(0.96, 0.95)
    assert not METRICS[MetricName.ERROR_RATE].meets(0.96, 0.95)
