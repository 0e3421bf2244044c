"""The API: history, load tests, presets, manifests and sessions. `contract` has its types."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import aiohttp
from aiohttp import web

from llmendpoint_dashboard.contract import LoadTestRequest, LoadTestStarted, Session
from llmendpoint_dashboard.loadtests.catalog import Catalog
from llmendpoint_dashboard.loadtests.documents import presets
from llmendpoint_dashboard.loadtests.problems import RefusedError
from llmendpoint_dashboard.server.answers import answer, body_of
from llmendpoint_dashboard.server.guard import CSRF_HEADER, Sessions
from llmendpoint_dashboard.settings import LoadLimits
from llmendpoint_dashboard.sources.history import RANGES, Histories
from llmendpoint_dashboard.sources.ring import Selection

#: The report has styles of its own, and nothing else. In the sandbox it has no origin and runs no script.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_MAX_LABEL = 512


class Api:
    """Routes of the API, except state and events.

    `http` is the client session for queries to Prometheus. It is None while the dashboard does not run.
    """

    def __init__(self, catalog: Catalog, histories: Histories, limits: LoadLimits, sessions: Sessions) -> None:
        self._catalog = catalog
        self._histories = histories
        self._limits = limits
        self._sessions = sessions
        self.http: aiohttp.ClientSession | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes. A key in a path is percent-encoded, so that it contains no slash."""
        tests = "/api/v1/loadtests"
        return [
            web.get("/api/v1/history", self._history),
            web.get("/api/v1/session", self._session),
            web.get("/api/v1/presets", self._presets),
            web.post("/api/v1/manifest", self._manifest),
            web.post(tests, self._start),
            web.get(f"{tests}/compare", self._compare),
            web.get(f"{tests}/{{key}}", self._detail),
            web.get(f"{tests}/{{key}}/report.html", self._report),
            web.post(f"{tests}/{{key}}/stop", self._stop),
        ]

    async def _history(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("range", "1h")
        if name not in RANGES:
            raise RefusedError(f"range is not one of {', '.join(RANGES)}.", "range", HTTPStatus.BAD_REQUEST)
        model, tenant = request.query.get("model"), request.query.get("tenant")
        if any(len(text or "") > _MAX_LABEL for text in (model, tenant)):
            raise RefusedError("A name is too long.", "model", HTTPStatus.BAD_REQUEST)
        if self.http is None:
            raise RefusedError("The dashboard is stopping.", status=HTTPStatus.SERVICE_UNAVAILABLE)
        # An empty model means all of them. The tenant without a name is a tenant, if the parameter is there.
        return answer(await self._histories.read(self.http, name, Selection(model or None, tenant)))

    async def _session(self, request: web.Request) -> web.StreamResponse:
        token, cookie = self._sessions.begin(request)
        response = answer(Session(csrf=token))
        if cookie is not None:
            self._sessions.set_cookie(request, response, cookie)
        return response

    async def _presets(self, _: web.Request) -> web.StreamResponse:
        return answer(presets(self._limits))

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        self._check_token(request)
        return answer(self._catalog.manifest(await body_of(request, LoadTestRequest)))

    async def _start(self, request: web.Request) -> web.StreamResponse:
        self._check_token(request)
        body = await body_of(request, LoadTestRequest)
        # A browser that leaves now must not leave a run behind that is only half started.
        key = await asyncio.shield(self._catalog.start(body))
        return answer(LoadTestStarted(key=key), HTTPStatus.ACCEPTED)

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        self._check_token(request)
        key = request.match_info["key"]
        await self._catalog.stop(key)
        return answer(LoadTestStarted(key=key), HTTPStatus.ACCEPTED)

    async def _detail(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._catalog.detail(request.match_info["key"]))

    async def _compare(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._catalog.compare(request.query.get("a", ""), request.query.get("b", "")))

    async def _report(self, request: web.Request) -> web.StreamResponse:
        report = await self._catalog.report(request.match_info["key"])
        response = web.Response(body=report, content_type="text/html", charset="utf-8")
        response.headers["Content-Security-Policy"] = _REPORT_POLICY
        response.enable_compression()
        return response

    def _check_token(self, request: web.Request) -> None:
        """Refuse a request that the page itself has not sent."""
        if not self._sessions.is_valid(request):
            raise RefusedError(
                f"The header {CSRF_HEADER} is missing or out of date. Reload the page.", status=HTTPStatus.FORBIDDEN
            )
