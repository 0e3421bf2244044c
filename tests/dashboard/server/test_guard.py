"""Who is answered: hosts, origins, forged requests, and the headers of every response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.process.units import Address
from llmendpoint_dashboard.contract import ValueSection
from llmendpoint_dashboard.main import Dashboard
from support.dashboard.dashboards import StartDashboard, url_of

STATE = "/api/v1/state"
FORM = {"source": "ollama", "model": "m", "duration": "5s"}


@pytest.fixture
async def dashboard(start_dashboard: StartDashboard) -> Dashboard:
    return await start_dashboard()


async def status_of(
    browser: aiohttp.ClientSession, dashboard: Dashboard, path: str, method: str = "GET", **headers: str
) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with browser.request(method, url_of(dashboard, path), headers=names, allow_redirects=False) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("path", ["/", STATE, "/web/absent.js", "/absent", "/api/v1/history?range=x", "/livez"])
async def test_every_response_has_the_headers(browser: aiohttp.ClientSession, dashboard: Dashboard, path: str) -> None:
    async with browser.get(url_of(dashboard, path)) as response:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in response.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:3001", 200), ("127.0.0.1:3001", 200), ("[::1]:3001", 200), ("evil.example", 403),
        ("localhost.evil.example", 403), ("127.0.0.1.evil.example:3001", 403), ("", 200),
    ],
)  # fmt: skip
async def test_only_names_of_this_machine_are_served(
    browser: aiohttp.ClientSession, dashboard: Dashboard, host: str, status: int
) -> None:
    assert await status_of(browser, dashboard, STATE, Host=host) == status


async def test_more_hosts_can_be_allowed(browser: aiohttp.ClientSession, start_dashboard: StartDashboard) -> None:
    dashboard = await start_dashboard(allowed_hosts=("dash.example", "*.team.example"))
    for host, status in {"dash.example": 200, "a.team.example:80": 200, "team.example": 403, "localhost": 200}.items():
        assert await status_of(browser, dashboard, STATE, Host=host) == status, host
    anywhere = await start_dashboard(allowed_hosts=("*",))
    assert await status_of(browser, anywhere, STATE, Host="anything.example") == 200


async def test_probes_are_answered_under_every_host(browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
    for path in ("/livez", "/readyz"):
        assert await status_of(browser, dashboard, path, Host="10-0-0-1.pod.example") == 200


async def test_pages_of_other_origins_cannot_use_the_api(browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
    own = f"127.0.0.1:{dashboard.port}"
    assert await status_of(browser, dashboard, STATE, Origin=f"http://{own}") == 200
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{dashboard.port + 1}", "http://localhost"):
        assert await status_of(browser, dashboard, STATE, Origin=origin) == 403, origin
        assert await status_of(browser, dashboard, "/api/v1/events", Origin=origin) == 403, origin
    assert await status_of(browser, dashboard, STATE, Sec_Fetch_Site="cross-site") == 403
    assert await status_of(browser, dashboard, STATE, Sec_Fetch_Site="same-site") == 403
    assert await status_of(browser, dashboard, STATE, Sec_Fetch_Site="same-origin") == 200
    # A link may open the page.
    assert await status_of(browser, dashboard, "/", Sec_Fetch_Site="cross-site") != 403


async def token_of(browser: aiohttp.ClientSession, dashboard: Dashboard) -> str:
    async with browser.get(url_of(dashboard, "/api/v1/session")) as response:
        return str((await response.json())["csrf"])


async def post(browser: aiohttp.ClientSession, dashboard: Dashboard, path: str, **request: Any) -> tuple[int, str]:
    async with browser.post(url_of(dashboard, path), **request) as response:
        return response.status, await response.text()


async def test_a_change_needs_the_cookie_and_the_token_of_a_session(
    browser: aiohttp.ClientSession, dashboard: Dashboard
) -> None:
    async with browser.get(url_of(dashboard, "/api/v1/session")) as response:
        cookie = response.headers["Set-Cookie"]
        token = (await response.json())["csrf"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    # A second call keeps the session.
    assert await token_of(browser, dashboard) == token
    for path in ("/api/v1/manifest", "/api/v1/loadtests", "/api/v1/loadtests/a/stop"):
        assert (await post(browser, dashboard, path, json=FORM))[0] == 403
        assert (await post(browser, dashboard, path, json=FORM, headers={"X-CSRF-Token": "0" * 64}))[0] == 403
    given = {"X-CSRF-Token": token}
    assert (await post(browser, dashboard, "/api/v1/manifest", json=FORM, headers=given))[0] == 200
    browser.cookie_jar.clear()
    assert (await post(browser, dashboard, "/api/v1/manifest", json=FORM, headers=given))[0] == 403


async def test_a_body_is_json_and_bounded(browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
    headers = {"X-CSRF-Token": await token_of(browser, dashboard)}
    manifest = "/api/v1/manifest"
    json_headers = {**headers, "Content-Type": "application/json"}
    assert (await post(browser, dashboard, manifest, data={"source": "a"}, headers=headers))[0] == 415
    assert (await post(browser, dashboard, manifest, data=b"{", headers=json_headers))[0] == 400
    assert (await post(browser, dashboard, manifest, data=b"[" * 60000, headers=json_headers))[0] in (400, 422)
    assert (await post(browser, dashboard, manifest, data=b" " * 70000, headers=json_headers))[0] == 413
    status, text = await post(browser, dashboard, manifest, json={**FORM, "rate": "fast"}, headers=headers)
    assert (status, '"field":"rate"' in text) == (422, True)
    status, text = await post(browser, dashboard, manifest, json={**FORM, "command": "rm"}, headers=headers)
    assert (status, "command" in text) == (422, True)


async def test_errors_are_one_sentence_of_json_and_quote_nothing_internal(
    browser: aiohttp.ClientSession, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with browser.get(url_of(dashboard, "/api/v1/loadtests/absent")) as response:
        assert (response.status, await response.json()) == (404, {"error": "There is no such load test.", "field": ""})
    async with browser.delete(url_of(dashboard, STATE)) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")
        assert (await response.json())["error"] == "Method Not Allowed."

    def fail() -> None:
        raise RuntimeError("secret /etc/passwd")

    monkeypatch.setattr(dashboard.hub, "encoded", fail)
    async with browser.get(url_of(dashboard, STATE)) as response:
        assert response.status == 500
        assert "secret" not in await response.text()


async def test_the_page_is_served_with_tags_and_nothing_outside_its_folder(
    browser: aiohttp.ClientSession, start_dashboard: StartDashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = tmp_path / "web"
    (web / "ui").mkdir(parents=True)
    (web / "index.html").write_text("<!doctype html><title>page</title>")
    (web / "ui" / "a.js").write_text("export const a = 1;\n" * 100)
    (web / "notes.py").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr("llmendpoint_dashboard.main.Assets", lambda: __import__(
        "llmendpoint_dashboard.server.assets", fromlist=["Assets"]).Assets(web))  # fmt: skip
    dashboard = await start_dashboard()
    async with browser.get(url_of(dashboard, "/")) as response:
        assert (response.content_type, await response.text()) == ("text/html", "<!doctype html><title>page</title>")
    async with browser.get(url_of(dashboard, "/web/ui/a.js")) as response:
        assert response.content_type == "text/javascript"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["Content-Encoding"] == "gzip"
        tag = response.headers["ETag"]
    assert await status_of(browser, dashboard, "/web/ui/a.js", If_None_Match=tag) == 304
    for path in ("../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "ui/../../secret.txt", "notes.py", "ui", ""):
        assert await status_of(browser, dashboard, f"/web/{path}") in (403, 404), path


async def test_the_state_can_be_polled_with_its_tag(browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
    async with browser.get(url_of(dashboard, STATE)) as response:
        first = response.headers["ETag"]
        assert (await response.json())["version"] == dashboard.hub.version
    dashboard.sidecars.publish = lambda: None  # type: ignore[method-assign]
    async with browser.get(url_of(dashboard, STATE)) as response:
        first = response.headers["ETag"]
    assert await status_of(browser, dashboard, STATE, If_None_Match=first) == 304
    dashboard.about.update(prometheus_message="changed")
    assert dashboard.hub.section(ValueSection.ABOUT)
    assert await status_of(browser, dashboard, STATE, If_None_Match=first) == 200


def test_loopback_is_what_only_this_machine_can_reach() -> None:

    assert all(Address(host, 1).is_loopback for host in ("localhost", "127.0.0.1", "127.8.0.1", "::1"))
    assert not any(Address(host, 1).is_loopback for host in (None, "0.0.0.0", "::", "10.0.0.1", "example.com"))
