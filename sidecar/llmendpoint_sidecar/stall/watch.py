"""Watches for a hung Ollama once per second, and acts until it answers again.

While Ollama is hung, the process is not ready, waiting requests end with an error, and new ones are refused. The models
are asked for a token until one answers, or Ollama's container is restarted if `--stall-restart-file` is set. With
workers, this runs in their supervisor only, which knows the requests of all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from llmendpoint_common.contracts.sidecar import ModelPhase, SidecarConfig, Stall
from llmendpoint_common.process.errors import OllamaError, OllamaSilentError
from llmendpoint_common.process.units import format_duration, parse_duration
from llmendpoint_sidecar.admin.server import Health
from llmendpoint_sidecar.agent.model_agent import ModelAgent
from llmendpoint_sidecar.meter.metrics import Labels
from llmendpoint_sidecar.meter.traffic import Traffic
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings
from llmendpoint_sidecar.stall.detector import Detector, Hang, Hold, Question, StallTimes
from llmendpoint_sidecar.stall.restart import RestartFile

log = logging.getLogger(__name__)

#: Interval of tests while Ollama is hung, and Retry-After: while it is restarted, and otherwise.
_RETEST_SECONDS = 5.0
#: Shortest time for an answer while Ollama is hung. Before Ollama replaces a runner for a request, it waits 10 s for
#: the runner's answer (needsReload in server/sched.go), and it forgets the request if the connection is closed earlier.
_RECOVERY_SECONDS = 30.0
_RETRY_AFTER_RESTART = 10
_RETRY_AFTER = 30
#: Time without an answer to requests about itself after which Ollama is restarted, if it may be. With a restart file,
#: the probe of its container does not check this.
_UNANSWERING_SECONDS = 300.0
_POLL_SECONDS = 0.25
#: Time for a new process of Ollama to listen. After it, the process counts as down and no longer as hung.
_START_SECONDS = 120.0


class Answer(StrEnum):
    """Results of a question for one token. They are the values of the metric label `result`."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    FAILED = "failed"


@dataclass(frozen=True)
class DataPath:
    """The processes that carry requests. `traffic` returns None if one of them does not answer."""

    traffic: Callable[[], Awaitable[Traffic | None]]
    note_hung: Callable[[HungNotice | None], None]


class StallWatch:
    """Watches one Ollama. `count` adds 1 to a counter. The caller runs `run`."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        agent: ModelAgent,
        health: Health,
        data_path: DataPath,
        count: Callable[[str, Labels], None],
    ) -> None:
        self._ollama, self._watch, self._labels = runtime.ollama, runtime.watch, runtime.model_labels
        self._agent = agent
        self._health = health
        self._data_path = data_path
        self._count = count
        self._default = StallTimes(settings.stall_after)
        self._detector = Detector(settings.parallel, self._default)
        self._restart_file: RestartFile | None = None
        if settings.stall_restart_file is not None:
            self._restart_file = RestartFile(settings.stall_restart_file, settings.upstream)
        self._question: asyncio.Task[Answer] | None = None
        self._ready_models: frozenset[str] = frozenset()
        self._notice: HungNotice | None = None
        self._hold: Hold | None = None
        #: Time without an answer to a poll, in seconds. None until Ollama has answered once.
        self._unanswering: float | None = None

    def configure(self, config: SidecarConfig) -> None:
        """Apply the section `stall` of a configuration."""
        times = self._default if config.stall is None else StallTimes(parse_duration(config.stall.after))
        self._detector.times = times

    @property
    def notice(self) -> HungNotice | None:
        """What processes that carry requests have to know now."""
        return self._notice

    async def run(self) -> None:
        """Observe at an interval, and act if Ollama is hung."""
        if self._restart_file is not None:
            self._restart_file.remove()
        try:
            while True:
                await asyncio.sleep(self._detector.times.interval)
                try:
                    await self._step()
                except Exception:
                    log.exception("the state of Ollama could not be judged")
        finally:
            self._end_question()
            if self._restart_file is not None:
                self._restart_file.remove()

    # ---- detection

    async def _step(self) -> None:
        if not self._watch.up:
            self._end_question()
            self._detector.reset()
            self._apply_hold()
            await self._check_unanswering()
            return
        self._unanswering = 0.0
        traffic = await self._data_path.traffic()
        if traffic is None:
            return
        hang = self._answer_result()
        if hang is None:
            hang = self._observe(traffic)
        if hang is not None:
            self._hold = None
            await self._recover(hang)
        else:
            self._apply_hold()

    def _observe(self, traffic: Traffic) -> Hang | None:
        remote = self._labels.remote
        here = {label: one for label, one in traffic.items() if label not in remote}
        memory = {
            self._labels.label(name): (model.size, model.size_vram, model.context_length)
            for name, model in self._watch.loaded.items()
        }
        self._note_loaded()
        decision = self._detector.tick(time.monotonic(), here, memory)
        if isinstance(decision, Question):
            self._question = asyncio.create_task(self._ask(decision.model, decision.seconds))
            return None
        return decision

    def _apply_hold(self) -> None:
        """Hold new requests, or forward them again, as the detector wants."""
        hold = self._detector.hold
        if hold == self._hold:
            return
        self._hold = hold
        if hold is None:
            log.info("Ollama gave a sign of life; requests are forwarded again")
            self._tell(None)
            return
        silent = format_duration(self._detector.times.after)
        log.warning(
            "no byte has come from %s for %s, and clients have given up; new requests are refused until it is known "
            "whether Ollama is hung", hold.model or "any model", silent,
        )  # fmt: skip
        sentence = f"Ollama has not answered a request for {silent}. Try again in {_RETRY_AFTER} s."
        models = None if hold.model is None else frozenset((hold.model,))
        self._tell(HungNotice(models, sentence, _RETRY_AFTER, ends_waiting=False))

    def _note_loaded(self) -> None:
        """Note the models that the agent has just loaded: they have answered the agent."""
        ready = frozenset(one.name for one in self._agent.statuses() if one.phase is ModelPhase.READY and one.loaded)
        for name in ready - self._ready_models:
            self._detector.loaded(self._labels.label(name))
        self._ready_models = ready

    def _answer_result(self) -> Hang | None:
        if self._question is None or not self._question.done():
            return None
        task, self._question = self._question, None
        result = task.result()
        return self._detector.answer(None if result is Answer.FAILED else result is Answer.ANSWERED)

    def _end_question(self) -> None:
        if self._question is not None:
            self._question.cancel()
            self._question = None

    async def _ask(self, model: str, seconds: float, level: int = logging.INFO) -> Answer:
        """Ask a model for one token, or for one embedding if it can do nothing else.

        `level` is the level of the log line about the question.
        """
        result = Answer.FAILED
        try:
            capabilities = (await self._ollama.described(model)).capabilities
            # Ollama lists no capabilities for a model that it does not know well. Images take long and have no tokens.
            if "completion" not in capabilities and "embedding" not in capabilities:
                log.log(
                    level, "no byte from Ollama for requests that wait; it does not say what %s can be asked", model
                )
            else:
                what = "one token" if "completion" in capabilities else "one embedding"
                log.log(level, "no byte from Ollama for requests that wait; asking %s for %s", model, what)
                await self._ollama.test(model, embedding="completion" not in capabilities, seconds=seconds)
                result = Answer.ANSWERED
        except OllamaSilentError:
            result = Answer.NO_ANSWER
        except OllamaError as error:
            log.debug("the test of %s failed: %s", model, error)
        self._count("upstream_tests", (result,))
        return result

    async def _check_unanswering(self) -> None:
        """Restart an Ollama that has answered, and then has not answered even a poll for five minutes."""
        if self._unanswering is None or self._restart_file is None:
            return
        self._unanswering += self._detector.times.interval
        if self._unanswering >= _UNANSWERING_SECONDS:
            self._unanswering = 0.0
            log.error("Ollama has not answered for %s", format_duration(_UNANSWERING_SECONDS))
            await self._restart(self._restart_file)

    # ---- what is done

    async def _recover(self, hang: Hang) -> None:
        """Report the hang until it is over."""
        self._end_question()
        began = time.monotonic()
        model = hang.model or self._detector.candidate()
        message = self._message(hang)
        log.error("%s", message)
        self._count("upstream_stalls", ())
        self._health.stalled = self._health.last_stall = Stall(time.time(), message)
        self._tell(self._notice_of(hang))
        try:
            await self._until_recovered(model)
        finally:
            self._health.stalled = None
            self._detector.reset()
            self._tell(None)
        log.info("Ollama runs models again, after %s", format_duration(time.monotonic() - began))

    async def _until_recovered(self, model: str | None) -> None:
        while True:
            if self._restart_file is not None and await self._restart(self._restart_file):
                return
            if model is None:
                await asyncio.sleep(self._detector.times.suspicion)
                return
            result = await self._ask(model, max(self._detector.times.answer, _RECOVERY_SECONDS), logging.DEBUG)
            if result is Answer.ANSWERED or (self._watch.up and model not in self._watch.listed):
                return
            await asyncio.sleep(min(_RETEST_SECONDS, self._detector.times.suspicion))

    async def _restart(self, file: RestartFile) -> bool:
        """Restart Ollama, and return whether a new process answers."""
        self._count("upstream_restarts", ())
        log.warning("requesting a restart of Ollama")
        if not await file.restart():
            log.error("Ollama was not restarted; does its container have the liveness probe for the restart file?")
            return False
        self._watch.lost()
        self._agent.ollama_restarted()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                while not self._watch.up:
                    await asyncio.sleep(_POLL_SECONDS)
                    await self._watch.poll()
        return True

    def _tell(self, notice: HungNotice | None) -> None:
        self._notice = notice
        self._data_path.note_hung(notice)

    def _notice_of(self, hang: Hang) -> HungNotice:
        # A restart ends the requests of all models.
        models = None if hang.model is None or self._restart_file is not None else frozenset((hang.model,))
        after = _RETRY_AFTER if self._restart_file is None else _RETRY_AFTER_RESTART
        restart = "" if self._restart_file is None else " and is being restarted"
        sentence = f"Ollama does not run the model: it is hung{restart}. Try again in {after} s."
        return HungNotice(models, sentence, after)

    def _message(self, hang: Hang) -> str:
        what = "any model" if hang.model is None else hang.model
        silent = format_duration(hang.silent)
        tested = ", and it did not answer a test request although a slot was free" if hang.was_asked else ""
        advice = (
            "The sidecar restarts the container of Ollama."
            if self._restart_file is not None
            else "Restart Ollama, and check its log and the GPU."
        )
        return f"Ollama is hung: requests wait, but no byte has come from {what} for {silent}{tested}. {advice}"
