"""Load runs against real servers, whose requests are kept."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from llmendpoint_common.contracts.loadrun import Api, Order, RunDocument, RunLoad, RunRequest, RunTarget
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import prompts_of_questions
from llmendpoint_loadjob.dataset.questions import read_questions, shipped_questions
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample


@dataclass
class RealRun:
    """A run, its requests after the warm-up, and its measurements."""

    run: LoadRun
    recorder: Recorder
    client: Client
    samples: list[Sample] = field(default_factory=list)

    @property
    def measurements(self) -> Measurements:
        return self.recorder.measurements


def load_run(
    url: str, load: RunLoad, api: Api = Api.OLLAMA_CHAT, request: RunRequest | None = None, **fields: Any
) -> RealRun:
    """Return a run that asks the shipped questions. `fields` are those of `LoadRun`."""
    document = RunDocument(RunTarget(url, api), "simulated", load, request=request or RunRequest())
    prompts = prompts_of_questions(read_questions(shipped_questions()), [], Order.SHUFFLED, load.seed)
    client = Client(parse_target(url), document, clock=time.perf_counter)
    recorder = Recorder(document)
    samples: list[Sample] = []
    run = LoadRun(document, prompts, client, recorder, on_sample=samples.append, **fields)
    return RealRun(run, recorder, client, samples)


async def drive(url: str, load: RunLoad, api: Api = Api.OLLAMA_CHAT, request: RunRequest | None = None) -> RealRun:
    """Execute a run."""
    outcome = load_run(url, load, api, request)
    await outcome.run.run()
    return outcome
