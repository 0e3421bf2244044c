"""Starts and stops load tests on this machine, one at a time, as processes of the load generator.

A run gets its run document as a file in its folder, and everything else as arguments that the dashboard made: no text
of a request becomes an argument, and there is no shell. It gets none of our environment variables, except the one with
the API key, if the form or the stack has one: other users cannot read it there, and it is not in the folder of the run.
A run belongs to the dashboard that started it: it is interrupted, which saves its partial result, when the dashboard
stops, and also when the dashboard is killed (on Linux, see `launcher`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from llmendpoint_common.contracts.loadrun import RunDocument, write_run_document
from llmendpoint_common.process import exit_codes
from llmendpoint_dashboard.contract import LoadTestRequest
from llmendpoint_dashboard.loadtests.api_keys import check_access, parse_key, read_key
from llmendpoint_dashboard.loadtests.documents import name_of, run_document
from llmendpoint_dashboard.loadtests.problems import RefusedError
from llmendpoint_dashboard.settings import Settings
from llmendpoint_dashboard.sources.runs import DOCUMENT, Child, has_ended

log = logging.getLogger(__name__)

_LOG = "load.log"
#: Time that a run gets to write its result after it was interrupted, before it is killed. `llmendpoint down` kills the
#: dashboard after 10 s.
STOP_SECONDS = 7.0
#: Time that a run takes at most from its last file to the end of its process.
_ENDING_SECONDS = 10.0
_MAX_LOG_BYTES = 4096
#: Prefix of the variables with settings of our programs.
_VARIABLES = "LLMENDPOINT_"
_API_KEY = "LLMENDPOINT_LOAD_API_KEY"
#: Runs that have ended and are remembered, for the reason of those without a result.
_MAX_REMEMBERED = 100
_ENDINGS = frozenset({exit_codes.OK, exit_codes.FAILED, exit_codes.INVALID, exit_codes.INTERRUPTED})


@dataclass
class _Run:
    """A run that was started here. `failure` is set if it ended without a result."""

    process: Process
    watching: asyncio.Task[None] | None = None
    failure: str = ""

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    def interrupt(self) -> None:
        """Let the run write its partial result and end. A run that was stopped with SIGSTOP is continued."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
            self.process.send_signal(signal.SIGCONT)


class Starter:
    """Starts runs. `changed` is called when one has started or ended."""

    def __init__(
        self, settings: Settings, runs: Path, changed: Callable[[], None], wall: Callable[[], float] = time.time
    ) -> None:
        self._limits = settings.load_limits
        self._key_file = settings.load_api_key_file
        self._urls: Mapping[str, str] = settings.load_urls or {}
        self._sidecars = {address.name: address.url for address in settings.sidecars}
        self._folder = runs
        self._changed = changed
        self._wall = wall
        self._runs: dict[str, _Run] = {}
        self._starting = asyncio.Lock()
        self._is_closed = False

    def child(self, key: str) -> Child | None:
        """Return a run that was started here, or None."""
        run = self._runs.get(key)
        return None if run is None else Child(run.is_running, run.failure)

    async def start(self, request: LoadTestRequest) -> str:
        """Start a run, and return its key. Raises RefusedError.

        If the form has no API key, the requests have that of the stack, which is read again for each run.
        """
        url = self._urls.get(request.source)
        if url is None:
            raise RefusedError("Load tests cannot be started for this source.", "source")
        document, api_key = run_document(request, url, self._limits), parse_key(request.api_key)
        async with self._starting:
            if self._is_closed:
                raise RefusedError("The dashboard is stopping.", status=HTTPStatus.SERVICE_UNAVAILABLE)
            going = await self._going()
            if going is not None:
                raise RefusedError(
                    f"The load test {going} is running. Two at the same time would measure each other: wait for its "
                    "end, or stop it.",
                    status=HTTPStatus.CONFLICT,
                )
            of_stack = None if api_key else self._key_file
            if of_stack is not None:
                api_key = await asyncio.to_thread(read_key, of_stack)
            await check_access(url, api_key, is_of_stack=of_stack is not None)
            sidecar = self._sidecars.get(request.source, "")
            return await self._start(document, sidecar, name_of(request), _environment(api_key))

    async def stop(self, key: str) -> None:
        """Interrupt a run, which then writes its partial result. Raises RefusedError if it was not started here."""
        run = self._runs.get(key)
        if run is None or not run.is_running or await asyncio.to_thread(has_ended, self._folder / key):
            raise RefusedError(
                "This load test is not running, or was not started by this dashboard.", status=HTTPStatus.CONFLICT
            )
        run.interrupt()

    async def close(self) -> None:
        """Interrupt the run that is going, and wait until it has written its result."""
        self._is_closed = True
        async with self._starting:
            going = [run for run in self._runs.values() if run.is_running]
        for run in going:
            run.interrupt()
        for run in going:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await run.process.wait()
            except TimeoutError:
                log.warning("a load test did not end within %g s after it was interrupted; it is killed", STOP_SECONDS)
                run.process.kill()
                await run.process.wait()
            if run.watching is not None:
                await asyncio.gather(run.watching, return_exceptions=True)

    async def _going(self) -> str | None:
        """Return the key of the run that is going, or None. A run that has written its result is awaited."""
        for key, run in self._runs.items():
            if run.is_running and await asyncio.to_thread(has_ended, self._folder / key):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ENDING_SECONDS):
                        await run.process.wait()
            if run.is_running:
                return key
        return None

    async def _start(self, document: RunDocument, sidecar: str, name: str, environment: Mapping[str, str]) -> str:
        try:
            key, log_file = await asyncio.to_thread(self._prepare, document, name)
        except OSError as error:
            raise RefusedError(
                f"The folder of load tests cannot be written: {error.strerror}.",
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
            ) from None
        folder = self._folder / key
        arguments = [f"--run={folder / DOCUMENT}", f"--out={folder}", "--log-level=warning"]
        if sidecar:
            arguments.append(f"--sidecar={sidecar}")
        command = [sys.executable, "-m", "llmendpoint_dashboard.loadtests.launcher", str(os.getpid()), *arguments]
        with open(log_file, "wb") as output:  # noqa: ASYNC230, PTH123 - an inherited descriptor of a new, small file
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=DEVNULL, stderr=output, env=environment, start_new_session=True
            )
        run = self._runs[key] = _Run(process)
        run.watching = asyncio.create_task(self._watch(key, run))
        self._forget_old()
        log.info("load test %s has been started", key)
        self._changed()
        return key

    def _prepare(self, document: RunDocument, name: str) -> tuple[str, Path]:
        """Create the folder of a run with its document, and return its key and the path of its log."""
        self._folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._wall()))
        for number in range(1000):
            key = f"{stamp}-{name}" + (f"-{number}" if number else "")
            try:
                (self._folder / key).mkdir()
            except FileExistsError:
                continue
            (self._folder / key / DOCUMENT).write_text(write_run_document(document), encoding="utf-8")
            return key, self._folder / key / _LOG
        raise FileExistsError(errno.EEXIST, "there are too many load tests of this second")

    async def _watch(self, key: str, run: _Run) -> None:
        code = await run.process.wait()
        if code not in _ENDINGS:
            words = await asyncio.to_thread(_last_line, self._folder / key / _LOG)
            run.failure = f"The load generator ended with {exit_codes.exit_text(code)}{f': {words}' if words else '.'}"
        log.info("load test %s has ended with %s", key, exit_codes.exit_text(code))
        self._changed()

    def _forget_old(self) -> None:
        ended = [key for key, run in self._runs.items() if not run.is_running]
        for key in ended[: max(0, len(ended) - _MAX_REMEMBERED)]:
            del self._runs[key]


def _environment(api_key: str) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(_VARIABLES)}
    return {**variables, _API_KEY: api_key} if api_key else variables


def _last_line(path: Path) -> str:
    """Return the last line of a log, or an empty string."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _MAX_LOG_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:500] if lines else ""
