"""Results in the formats of other tools, compared with the fields that those tools write, and read by llm-d's library."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from llmd_benchmark_report import load_benchmark_report
from llmd_benchmark_report.native_to_br0_2 import import_vllm_benchmark

from llmendpoint_common.contracts.loadrun import RunDocument, Summary
from llmendpoint_loadjob.report.formats import llmd_report, vllm_result

FORMATS = Path(__file__).parent / "formats"
Fields = dict[str, dict[str, Any]]


def fields_of(name: str) -> Fields:
    fields: Fields = json.loads((FORMATS / name).read_text())["fields"]
    return fields


def percentiles(scale: float) -> dict[str, Any]:
    return {
        "count": 4,
        "mean": scale,
        "p50": scale,
        "p90": 2 * scale,
        "p95": 3 * scale,
        "p99": 4 * scale,
        "max": 5 * scale,
    }


def bucket(start: float, completed: int) -> dict[str, Any]:
    return {"startSeconds": start, "offered": completed, "sent": completed, "completed": completed, "errors": 0,
            "inFlight": completed + 1, "outputTokens": 10 * completed, "ttft": percentiles(0.2),
            "requestLatency": percentiles(1.0)}  # fmt: skip


def summary(**changes: Any) -> Summary:
    """Return the summary of 5 requests in 10 s, one of which failed."""
    base = {
        "verdict": "Passed", "reason": "ObjectivesMet", "message": "all objectives were met", "target": "http://h:1",
        "model": "m:1b", "api": "openai-chat", "seed": 1, "duration": {"value": 10.0, "unit": "seconds"},
        "requests": 5, "errors": 1, "errorsByClass": {"unfinished": 1},
        "requestsPerSecond": {"value": 0.4, "unit": "requests/s"}, "goodput": {"value": 0.3, "unit": "requests/s"},
        "attainment": {"value": 0.6, "unit": "ratio"}, "inputTokens": 40, "outputTokens": 80,
        "outputTokensPerSecond": {"value": 8.0, "unit": "tokens/s"}, "ttft": percentiles(0.2), "tpot": percentiles(0.02),
        "requestLatency": percentiles(1.0), "queueDelay": percentiles(0.001), "ttftScheduled": percentiles(0.2),
        "requestLatencyScheduled": percentiles(1.0), "clientLag": percentiles(0.001), "slo": [], "categories": [],
        "histograms": {}, "startedAt": "2026-11-25T10:00:00+00:00", "endedAt": "2026-11-25T10:00:15+00:00",
        "interChunkLatency": percentiles(0.02), "tokensPerChunk": 1.0,
        "window": {"warmupSeconds": 2.0, "loadSeconds": 10.0, "drainSeconds": 1.0},
        "environment": {"server": "ollama 0.17.4", "gpu": "NVIDIA L4", "modelDigest": "sha256:1", "pods": 2},
        "timeline": [bucket(-2.0, 1), bucket(0.0, 4), bucket(2.0, 2)],
    }  # fmt: skip
    return msgspec.convert(base | changes, Summary)


def document(**load: Any) -> RunDocument:
    fields = {"target": {"url": "http://h:1", "api": "openai-chat"}, "model": "m:1b",
              "load": load or {"rate": 0.5, "arrivals": "poisson"},
              "objectives": [{"metric": "TTFT", "threshold": 1.0, "percentile": 95}]}  # fmt: skip
    return msgspec.convert(fields, RunDocument)


def lines() -> list[dict[str, Any]]:
    answered = [
        {"error": None, "ttft": 0.1 * number, "tpot": 0.02, "request_latency": 1.0 * number, "queue_delay": 0.001,
         "input_tokens": 10, "output_tokens": 5 * number, "has_usage": True}
        for number in (1, 2, 3, 10)
    ]  # fmt: skip
    failed = {"error": "unfinished", "ttft": 0.3, "tpot": None, "request_latency": 9.0, "queue_delay": 0.001,
              "input_tokens": 0, "output_tokens": 0, "has_usage": False}  # fmt: skip
    return [*answered, failed]


def type_of(value: Any) -> str:
    kinds: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number", list: "array",
                              dict: "object", type(None): "null"}  # fmt: skip
    return kinds[type(value)]


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each path of an object with its value. Items of a list have the path `LIST[]`."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from flattened(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for item in value:
            yield from flattened(item, f"{path}[]")


class TestVllm:
    #: Fields that this tool adds, as `--metadata` would.
    ADDED = frozenset({"llmendpoint_version", "verdict"})

    @pytest.mark.parametrize("load", [{"rate": 0.5, "arrivals": "poisson"}, {"concurrency": 4}])
    def test_it_has_the_fields_and_types_that_vllm_writes(self, load: dict[str, Any]) -> None:
        fields = fields_of("vllm-bench-serve.json")

        result = vllm_result(summary(), lines(), document(**load))

        always = {name for name, field in fields.items() if field["written"] == "always"}
        # The deviation of single gaps is not kept.
        assert always - set(result) == {"std_itl_ms"}
        assert set(result) - self.ADDED <= set(fields)
        # This tool has no tokenizer; vLLM writes null with --skip-tokenizer-init.
        compared = set(result) - self.ADDED - {"tokenizer_id"}
        wrong = {name: result[name] for name in compared if type_of(result[name]) not in fields[name]["types"]}
        assert wrong == {}

    def test_units_are_those_of_vllm(self) -> None:
        result = vllm_result(summary(), lines(), document())
        assert result["mean_ttft_ms"] == pytest.approx(200.0)
        assert result["p99_e2el_ms"] == pytest.approx(4000.0)
        assert result["median_tpot_ms"] == pytest.approx(20.0)
        assert result["duration"] == 10.0
        assert result["request_throughput"] == 0.4
        assert result["total_token_throughput"] == pytest.approx(12.0)
        assert result["request_goodput"] == 0.3
        assert result["request_rate"] == 0.5
        assert result["max_output_tokens_per_s"] == pytest.approx(20.0)
        assert result["date"] == "20261125-100015"

    def test_a_deviation_covers_answered_requests(self) -> None:
        result = vllm_result(summary(), lines(), document())
        assert result["std_ttft_ms"] == pytest.approx(
            1e3 * math.sqrt(sum((x - 0.4) ** 2 for x in (0.1, 0.2, 0.3, 1.0)) / 4)
        )
        assert result["latencies"] == [1.0, 2.0, 3.0, 10.0, None]

    def test_a_closed_loop_has_no_rate(self) -> None:
        result = vllm_result(summary(), lines(), document(concurrency=4))
        assert (result["request_rate"], result["max_concurrency"]) == ("inf", 4)

    def test_gaps_between_chunks_are_no_itl_if_a_chunk_has_several_tokens(self) -> None:
        result = vllm_result(summary(tokensPerChunk=4.0), lines(), document())
        assert not [name for name in result if "itl" in name]

    def test_what_was_not_measured_is_absent_and_not_zero(self) -> None:
        result = vllm_result(summary(ttft=None, tpot=None), [], document())
        assert not [name for name in result if "ttft" in name or "tpot" in name]
        assert "std_e2el_ms" not in result
        assert result["mean_e2el_ms"] == pytest.approx(1000.0)

    def test_tokens_that_the_server_did_not_report_are_null(self) -> None:
        without = summary(inputTokens=None, outputTokens=None, outputTokensPerSecond=None)
        result = vllm_result(without, [], document())
        assert {name for name in result if "token" in name and result[name] == 0} == set()
        assert result["total_output_tokens"] is None
        aggregate = llmd_report(without, [], document())["results"]["request_performance"]["aggregate"]
        assert set(aggregate["throughput"]) == {"request_rate"}
        assert "output_length" not in aggregate["requests"]

    def test_the_whole_is_strict_json(self) -> None:
        result = vllm_result(summary(), lines(), document(rate=2.0, arrivals="constant"))
        json.dumps(result, allow_nan=False)

    def test_the_library_of_llm_d_reads_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("LLMDBENCH_RUN_EXPERIMENT_RESULTS_DIR", "KUBERNETES_SERVICE_HOST"):
            monkeypatch.delenv(name, raising=False)
        file = tmp_path / "result.json"
        file.write_text(json.dumps(vllm_result(summary(), lines(), document())))
        report = import_vllm_benchmark(str(file)).dump()
        aggregate = report["results"]["request_performance"]["aggregate"]
        assert aggregate["latency"]["time_to_first_token"]["p99"] == pytest.approx(800.0)
        assert aggregate["requests"]["failures"] == 1


class TestLlmD:
    def test_the_library_of_llm_d_accepts_it(self) -> None:
        report = llmd_report(summary(), lines(), document())
        load_benchmark_report(report)

    @pytest.mark.parametrize(
        "load",
        [
            {"concurrency": 4},
            {"sessions": {"users": 3, "turns": 2}},
            {"stages": [{"rate": 2.0, "durationSeconds": 3.0}]},
        ],
    )
    def test_every_kind_of_load_is_accepted(self, load: dict[str, Any]) -> None:
        load_benchmark_report(llmd_report(summary(), [], document(**load)))

    def test_a_run_without_an_answer_is_accepted(self) -> None:
        nothing = summary(requests=3, errors=3, ttft=None, tpot=None, requestLatency=None, interChunkLatency=None,
                          inputTokens=0, outputTokens=0, timeline=[], startedAt="", endedAt="", window=None,
                          verdict="Error", reason="TargetUnreachable")  # fmt: skip
        report = llmd_report(nothing, [], document())
        load_benchmark_report(report)
        assert "latency" not in report["results"]["request_performance"]["aggregate"]

    def test_it_has_the_fields_types_and_units_of_the_schema(self) -> None:
        fields = fields_of("llm-d-benchmark-report.json")
        free = ("scenario.load.native.config", "scenario.stack[].native.config", "scenario.stack[].standardized")

        found = dict(flattened(llmd_report(summary(), lines(), document())))

        for path, value in found.items():
            if path.startswith(free) and path not in fields:
                continue
            kinds = {"integer": "number"}
            types = {kinds.get(kind, kind) for kind in fields[path]["types"]}
            assert type_of(value) in types or "any" in types, path
            assert value in fields[path].get("values", [value]), path
        missing = [
            path for path, field in fields.items()
            if field["required"] and not path.endswith("[]") and path not in found and path.rpartition(".")[0] in found
            and not path.startswith("scenario.stack[].standardized")
        ]  # fmt: skip
        assert missing == []

    def test_units_are_seconds_and_tokens(self) -> None:
        report = llmd_report(summary(), lines(), document())
        aggregate = report["results"]["request_performance"]["aggregate"]
        assert aggregate["latency"]["time_to_first_token"] | {"stddev": 0} == {
            "units": "s", "stddev": 0, "mean": 0.2, "p50": 0.2, "p90": 0.4, "p95": pytest.approx(0.6), "p99": 0.8, "max": 1.0,
        }  # fmt: skip
        assert aggregate["latency"]["time_per_output_token"]["units"] == "s/token"
        assert aggregate["requests"]["total"] == 5
        assert (aggregate["requests"]["failures"], aggregate["requests"]["incomplete"]) == (0, 1)
        assert aggregate["requests"]["output_length"]["max"] == 50
        assert aggregate["throughput"]["request_rate"] == {"units": "queries/s", "mean": 0.4}

    def test_the_time_series_counts_from_the_start_of_the_run(self) -> None:
        report = llmd_report(summary(), lines(), document())
        series = report["results"]["request_performance"]["time_series"]["throughput"]["request_rate"]
        assert [(point["ts"][11:19], point["value"]) for point in series["series"]] == [
            ("10:00:00", 0.5), ("10:00:02", 2.0), ("10:00:04", 1.0),
        ]  # fmt: skip
