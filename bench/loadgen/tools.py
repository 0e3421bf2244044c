"""The load generators: their commands, and the time to first token in their reports."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = "llmendpoint"
PEERS = ("guidellm", "aiperf", "inference-perf")
MODEL = "bench"
#: Length of the prompts of the peers. Ours asks its own questions, which are longer.
INPUT_TOKENS = 20


@dataclass(frozen=True)
class Load:
    """An open loop with constant gaps: `requests` requests at `rate` per second, each with an answer of `tokens`."""

    url: str
    rate: float
    seconds: int
    tokens: int

    @property
    def requests(self) -> int:
        """Number of requests."""
        return round(self.rate * self.seconds)


@dataclass(frozen=True)
class Tool:
    """A load generator. `command` writes its files into a folder, in which `report` finds (p50, p99) in seconds.

    A peer has one worker process for requests, because it has one core.
    """

    name: str
    command: Callable[[Load, Path], list[str]]
    report: Callable[[Path], tuple[float, float]]
    environment: dict[str, str]


def ours() -> Tool:
    """Return `llmendpoint load` of this checkout."""

    def command(load: Load, folder: Path) -> list[str]:
        return [sys.executable, "-m", "llmendpoint_cli.main", "load", "--url", load.url, "--api", "openai-chat",
                "--model", MODEL, "--rate", str(load.rate), "--arrivals", "constant", "--duration", f"{load.seconds}s",
                "--warmup", "0s", "--max-tokens", str(load.tokens), "--out", str(folder)]  # fmt: skip

    def report(folder: Path) -> tuple[float, float]:
        ttft = json.loads((folder / "summary.json").read_text())["ttft"]
        return ttft["p50"], ttft["p99"]

    return Tool(OURS, command, report, {})


def guidellm(programs: Path, tokenizer: Path) -> Tool:
    """Return GuideLLM (Apache-2.0)."""

    def command(load: Load, folder: Path) -> list[str]:
        return [str(programs / "guidellm"), "run",
                "--backend", f"kind=openai_http,target={load.url},model={MODEL}",
                "--profile", f"kind=constant,rate={load.rate}",
                "--constraint", f"kind=max_requests,count={load.requests}",
                "--tokenizer", f"kind=huggingface_auto,model={tokenizer}",
                "--data", f"kind=synthetic_text,prompt_tokens={INPUT_TOKENS},output_tokens={load.tokens}",
                "--output", f"kind=json,path={folder / 'report.json'}", "--disable-console"]  # fmt: skip

    def report(folder: Path) -> tuple[float, float]:
        (run,) = json.loads((folder / "report.json").read_text())["benchmarks"]
        ttft = run["metrics"]["time_to_first_token_ms"]["successful"]["percentiles"]
        return ttft["p50"] / 1e3, ttft["p99"] / 1e3

    return Tool("guidellm", command, report, {"GUIDELLM__MAX_WORKER_PROCESSES": "1", "TOKENIZERS_PARALLELISM": "false"})


def aiperf(programs: Path, tokenizer: Path) -> Tool:
    """Return AIPerf (Apache-2.0)."""

    def command(load: Load, folder: Path) -> list[str]:
        return [str(programs / "aiperf"), "profile", "-m", MODEL, "--url", load.url, "--endpoint-type", "chat",
                "--streaming", "--tokenizer", str(tokenizer), "--request-rate", str(load.rate),
                "--arrival-pattern", "constant", "--request-count", str(load.requests), "--isl", str(INPUT_TOKENS),
                "--osl", str(load.tokens), "--artifact-dir", str(folder), "--ui", "none", "--use-server-token-count",
                "--workers-max", "1", "--record-processors", "1"]  # fmt: skip

    def report(folder: Path) -> tuple[float, float]:
        ttft = json.loads((folder / "profile_export_aiperf.json").read_text())["time_to_first_token"]
        return ttft["p50"] / 1e3, ttft["p99"] / 1e3

    return Tool("aiperf", command, report, {})


def inference_perf(programs: Path, tokenizer: Path) -> Tool:
    """Return inference-perf (Apache-2.0). Its synthetic prompts are only available for text completions."""

    def command(load: Load, folder: Path) -> list[str]:
        config = folder / "config.json"
        config.write_text(json.dumps(_inference_perf_config(load, folder, tokenizer)))
        return [str(programs / "inference-perf"), "-c", str(config)]

    def report(folder: Path) -> tuple[float, float]:
        text = (folder / "reports" / "summary_lifecycle_metrics.json").read_text()
        ttft = json.loads(text)["successes"]["latency"]["time_to_first_token"]
        return ttft["median"], ttft["p99"]

    return Tool("inference-perf", command, report, {})


def _inference_perf_config(load: Load, folder: Path, tokenizer: Path) -> dict[str, Any]:
    def always(number: int) -> dict[str, Any]:
        return {
            "min": number,
            "max": number,
            "mean": number,
            "std_dev": 0,
            "total_count": load.requests,
            "type": "fixed",
        }

    lifecycle = {"summary": True, "per_stage": False, "per_request": False, "percentiles": [50, 99]}
    return {
        "api": {"type": "completion", "streaming": True},
        "data": {
            "type": "random",
            "input_distribution": always(INPUT_TOKENS),
            "output_distribution": always(load.tokens),
        },
        "load": {
            "type": "constant",
            "num_workers": 1,
            "worker_max_concurrency": 5000,
            "worker_max_tcp_connections": 5000,
            "stages": [{"rate": load.rate, "duration": load.seconds}],
        },
        "server": {"type": "vllm", "model_name": MODEL, "base_url": load.url, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": str(tokenizer)},
        "report": {"request_lifecycle": lifecycle},
        "storage": {"local_storage": {"path": str(folder / "reports")}},
    }


def all_tools(programs_of: Callable[[str], Path], tokenizer: Path, names: list[str]) -> Iterator[Tool]:
    """Yield the wanted tools, ours first. `programs_of` returns the folder of a peer's programs."""
    makers = {"guidellm": guidellm, "aiperf": aiperf, "inference-perf": inference_perf}
    yield ours()
    for name in names:
        yield makers[name](programs_of(name), tokenizer)
