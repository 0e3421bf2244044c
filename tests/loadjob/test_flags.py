"""The command line of the load generator: a flag for every field, vLLM's spellings, and a sentence for a wrong one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import (
    MAX_SECONDS,
    Arrivals,
    RunDocument,
    RunLoad,
    RunSessions,
    RunStage,
    RunSweep,
    RunSynthetic,
    RunTrace,
)
from llmendpoint_common.contracts.loadrun.presets import Scenario
from llmendpoint_loadjob.settings import parse_settings


def document(*flags: str) -> RunDocument:
    return parse_settings(["--model=m", *flags], environment={}).document


@pytest.mark.parametrize(
    ("flags", "load"),
    [
        ([], {"concurrency": 1}),
        (["--concurrency=8", "--think-time=500ms"], {"concurrency": 8, "think_time_seconds": 0.5}),
        (["--sessions=4", "--turns=3"], {"sessions": RunSessions(4, 3)}),
        (["--rate=5"], {"rate": 5.0}),
        (["--rate=5", "--arrivals=constant", "--max-in-flight=9"],
         {"rate": 5.0, "arrivals": Arrivals.CONSTANT, "max_in_flight": 9}),
        (["--rate=5", "--arrivals=gamma", "--burstiness=0.5"],
         {"rate": 5.0, "arrivals": Arrivals.GAMMA, "burstiness": 0.5}),
        (["--stage=30s:rate=5:ramp", "--stage=1m:rate=0"],
         {"stages": (RunStage(duration_seconds=30, rate=5.0, ramp=True), RunStage(duration_seconds=60, rate=0.0))}),
        (["--stage=30s:concurrency=5"], {"stages": (RunStage(duration_seconds=30, concurrency=5),)}),
        (["--rate=2", "--stop-when-saturated", "--drain-timeout=5s", "--warmup=1s", "--duration=2s", "--seed=-3",
          "--max-requests=7"],
         {"rate": 2.0, "stop_when_saturated": True, "drain_timeout_seconds": 5.0, "warmup_seconds": 1.0,
          "duration_seconds": 2.0, "seed": -3, "max_requests": 7}),
        # vLLM's spellings
        (["--request-rate=5", "--max-concurrency=9"], {"rate": 5.0, "max_in_flight": 9}),
        (["--max-concurrency=9"], {"concurrency": 9}),
        (["--request-rate=5", "--burstiness=1"], {"rate": 5.0, "arrivals": Arrivals.POISSON}),
        (["--request-rate=5", "--burstiness=2"], {"rate": 5.0, "arrivals": Arrivals.GAMMA, "burstiness": 2.0}),
        (["--num-prompts=100"], {"concurrency": 1, "max_requests": 100, "duration_seconds": MAX_SECONDS}),
        (["--num-prompts=100", "--duration=5s"], {"concurrency": 1, "max_requests": 100, "duration_seconds": 5.0}),
    ],
)  # fmt: skip
def test_flags_of_the_load(flags: list[str], load: dict[str, Any]) -> None:
    # The defaults are those of a LoadTest, in which arrivals are always known.
    if "arrivals" not in load and (RunLoad(**load).is_open):
        load["arrivals"] = Arrivals.POISSON
    assert document(*flags).load == RunLoad(**load)


def test_flags_of_a_sweep() -> None:
    found = document("--sweep=0.5:20", "--sweep-step=10s", "--sweep-precision=2%", "--slo=ttft:p95=1s")
    assert found.load == RunLoad(
        sweep=RunSweep(max_rate=20, min_rate=0.5, step_seconds=10, precision=0.02), arrivals=Arrivals.POISSON
    )


def test_flags_of_the_requests() -> None:
    found = document(
        "--base-url=https://x/v1", "--insecure", "--backend=ollama-chat", "--header=X-Tenant: blue", "--header=X-B=c=d",
        "--body=think=false", "--body=keep_alive=5m", '--extra-body={"n": [1]}', "--option=num_ctx=8192",
        "--prefix-cache=unique", "--no-stream", "--max-tokens=5", "--temperature=0", "--timeout=5s",
        "--disable-shuffle", "--category=Math",
    )  # fmt: skip
    request = found.request
    assert (found.target.url, found.target.insecure_skip_verify) == ("https://x/v1", True)
    assert request.headers == {"X-Tenant": "blue", "X-B": "c=d"}
    assert request.body == {"n": [1], "think": False, "keep_alive": "5m"}
    assert request.options == {"num_ctx": 8192}
    assert (request.prefix_cache, request.stream, request.max_tokens) == ("unique", False, 5)
    assert (request.temperature, request.timeout_seconds, found.questions.order) == (0.0, 5.0, "sequential")


def test_flags_of_generated_prompts_and_traces() -> None:
    assert document("--input-tokens=500", "--random-output-len=20").synthetic == RunSynthetic(500, 20)
    found = document("--trace=trace.jsonl", "--time-scale=0.5")
    assert found.trace == RunTrace(0.5)
    assert not found.load.is_open


def test_flags_of_a_baseline() -> None:
    settings = parse_settings(["--model=m", "--baseline=old", "--max-regression=25%"], environment={})
    assert settings.document.baseline is not None
    assert settings.document.baseline.max_regression == 0.25
    assert str(settings.baseline) == "old"


@pytest.mark.parametrize("scenario", list(Scenario))
def test_every_scenario_can_be_run_by_its_name(scenario: Scenario) -> None:
    found = document(f"--scenario={scenario}", "--seed=9")
    assert found.load.seed == 9


def test_flags_change_a_scenario() -> None:
    stages = document("--scenario=Ramp", "--concurrency=8", "--duration=1m").load.stages
    assert stages == (RunStage(duration_seconds=60, concurrency=8, ramp=True),)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--arrivals=constant"], "--arrivals is only allowed with --rate, --sweep or stages with a rate"),
        (["--max-in-flight=3"], "--max-in-flight is only allowed with --rate"),
        (["--timeout=0"], "--timeout: '0' is too short; it must be more than 0"),
        (["--duration=0s"], "--duration: '0s' is too short"),
        (["--duration=10000h"], "--duration: '10000h' is too long"),
        (["--temperature=nan"], "--temperature: 'nan' is not a number"),
        (["--temperature=-1"], "--temperature: '-1' is negative"),
        (["--api=openai"], "--api: 'openai' is not valid; choose ollama-chat, ollama-generate or openai-chat"),
        (["--backend=openai"], "--backend: 'openai' is not valid; choose ollama-chat"),
        (["--scenario=Chaos"], "--scenario: 'Chaos' is not valid; choose Smoke, Baseline"),
        (["--format=xml"], "--format: 'xml' is not valid; choose table, json, vllm, llm-d or csv"),
        (["--result-config-map=smoke-result-0"], "--result-config-map: 'smoke-result-0' is not a ConfigMap"),
        (["--concurrency=2", "--rate=3"], "set only one of --concurrency"),
        (["--rate=3", "--stage=5s:rate=1"], "not --rate and --stage"),
        (["--stage=5s:rate=1", "--stage=5s:concurrency=1"], "the stages must all have a rate"),
        (["--stage=5s:rate=0"], "at least one of the stages must have a load above 0"),
        (["--stage=5s:concurrency=0", "--stage=5s:concurrency=0:ramp"], "at least one of the stages must have a load"),
        (["--stage=5s"], "--stage: '5s' is not a stage; write it like 30s:rate=5"),
        (["--stage=5s:rate=nan"], "has no valid rate"),
        (["--stage=5s:concurrency=1.5"], "has no valid concurrency"),
        (["--stage=0s:rate=1"], "'0s' is too short"),
        (["--stage=5s:rate=1", "--duration=5s"], "--duration cannot be combined with --stage"),
        (["--sweep=5:1", "--slo=error_rate=1%"], "the first rate must be less than the second"),
        (["--sweep=1:5"], "--sweep requires --slo"),
        (["--slo=attainment=0%"], "--slo: the threshold of Attainment must be more than 0%, because every run meets 0%"),
        (["--slo=ttft:p95=721h"], "--slo: the threshold of TTFT must be at most 720h (30 days)"),
        (["--slo=error_rate=100%"], "--slo: the threshold of ErrorRate must be less than 100%"),
        (["--sweep-step=5s"], "--sweep-step is only allowed with --sweep"),
        (["--turns=2"], "--turns is only allowed with --sessions"),
        (["--think-time=2s", "--rate=1"], "--think-time is only allowed with --concurrency or --sessions"),
        (["--rate=1", "--arrivals=gamma"], "--arrivals gamma requires --burstiness"),
        (["--rate=1", "--arrivals=constant", "--burstiness=2"], "--burstiness is only allowed with --arrivals gamma"),
        (["--input-tokens=5"], "--input-tokens is only allowed with --output-tokens"),
        (["--time-scale=2"], "--time-scale is only allowed with --trace"),
        (["--out="], "--out: the path is empty"),
        (["--questions="], "--questions: the path is empty"),
        (["--trace="], "--trace: the path is empty"),
        (["--baseline="], "--baseline: the path is empty"),
        (["--trace=t", "--rate=2"], "--trace determines when requests are sent"),
        (["--max-regression=5%"], "--max-regression is only allowed with --baseline"),
        (["--max-concurrency=5", "--concurrency=5"], "set either --max-concurrency or --concurrency"),
        (["--header=Authorization: Bearer x"], "use --api-key-file"),
        (["--header=a b: c"], "is not a header"),
        (["--header=X: a\nb: c"], "the value of the header X contains a control character"),
        (["--header=Content-Length: 5"], "the header Content-Length is set by the load generator"),
        (["--body=think"], "'think' is not a field"),
        (["--extra-body=[]"], "is not a JSON object"),
        (["--slice=2/2"], "--slice: '2/2' is not a part of a run"),
        (["--slice=0/3", "--rate=1", "--max-in-flight=2"], "maxInFlight (2) must be at least the number of parts"),
        (["--slice=0/2", "--sweep=1:2", "--slo=error_rate=1%"], "a sweep runs in one pod"),
        (["--model=\udcff"], "the argument '--model=\\xff' is not valid UTF-8"),
        (["--api-key=sk\n"], "the API key contains a control character"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_refused_with_a_sentence(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings(["--model=m", *flags], "llmendpoint load", {})
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("llmendpoint load: ")
    assert sentence in error
    assert error.count("\n") == 2


def test_bytes_that_are_not_text_are_refused_by_the_process() -> None:
    command: list[str | bytes] = [sys.executable, "-m", "llmendpoint_loadjob", b"--model=\xff"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60, env=os.environ)
    assert done.returncode == 2
    assert b"is not valid UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_help_text_has_each_heading_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--help"], environment={})
    headings = [
        line for line in capsys.readouterr().out.splitlines() if line.endswith(":") and not line.startswith(" ")
    ]
    assert "load:" in headings
    assert len(set(headings)) == len(headings)


def test_a_rate_above_the_maximum_is_refused_with_the_maximum(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--model=m", "--rate=200000"], environment={})
    assert "at most 100,000" in capsys.readouterr().err
