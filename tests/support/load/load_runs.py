"""Runs a load against a server, without the process around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from llmendpoint_common.contracts.loadrun import Order, RunDocument
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import prompts_of_questions
from llmendpoint_loadjob.dataset.questions import read_questions, shipped_questions
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample


@dataclass
class Driven:
    """A run with the shipped questions, and its requests."""

    document: RunDocument
    clock: Callable[[], float] = time.perf_counter
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        document = self.document
        self.recorder = Recorder(document)
        self.client = Client(parse_target(document.target.url), document, clock=self.clock)
        prompts = prompts_of_questions(read_questions(shipped_questions()), (), Order.SHUFFLED, document.load.seed)
        self.run = LoadRun(
            document, prompts, self.client, self.recorder, clock=self.clock, on_sample=self.samples.append
        )

    @property
    def measurements(self) -> Measurements:
        return self.recorder.measurements


async def drive(document: RunDocument) -> Driven:
    """Run a document until its end."""
    driven = Driven(document)
    await driven.run.run()
    return driven
