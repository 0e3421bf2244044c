"""Users with a token, and users of a proxy in front."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path

import aiohttp
import pytest

from llmendpoint_common.process.errors import APIKeyError
from llmendpoint_dashboard.main import Dashboard
from llmendpoint_dashboard.server import auth as module
from llmendpoint_dashboard.settings import Auth, AuthMode
from support.dashboard.dashboards import StartDashboard, url_of

TOKEN = "0123456789abcdef-correct"
STATE = "/api/v1/state"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
async def dashboard(start_dashboard: StartDashboard, token_file: Path) -> Dashboard:
    return await start_dashboard(auth=Auth(AuthMode.TOKEN, token_file))


async def status_of(browser: aiohttp.ClientSession, dashboard: Dashboard, path: str = STATE, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with browser.get(url_of(dashboard, path), headers=names, allow_redirects=False) as response:
        await response.read()
        return response.status


async def log_in(browser: aiohttp.ClientSession, dashboard: Dashboard, token: str) -> int:
    async with browser.post(url_of(dashboard, "/login"), data={"token": token}, allow_redirects=False) as response:
        await response.read()
        return response.status


async def test_nothing_but_the_login_and_the_probes_is_for_everyone(
    browser: aiohttp.ClientSession, dashboard: Dashboard
) -> None:
    for path in (STATE, "/api/v1/events", "/api/v1/session", "/api/v1/loadtests/a/report.html", "/api/v1/presets"):
        assert await status_of(browser, dashboard, path) == 401, path
    async with browser.get(url_of(dashboard, "/"), allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/login")
    assert await status_of(browser, dashboard, "/web/app.js") == 303
    for path in ("/livez", "/readyz", "/login", "/login.css"):
        assert await status_of(browser, dashboard, path) == 200, path
    async with browser.get(url_of(dashboard, STATE)) as response:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_the_bearer_token_is_accepted_and_others_are_not(
    browser: aiohttp.ClientSession, dashboard: Dashboard
) -> None:
    assert await status_of(browser, dashboard, Authorization=f"Bearer {TOKEN}") == 200
    assert await status_of(browser, dashboard, Authorization=f"bearer {TOKEN}") == 200
    for wrong in (f"Bearer {TOKEN}x", "Bearer x", f"Basic {TOKEN}", TOKEN):
        assert await status_of(browser, dashboard, Authorization=wrong) == 401, wrong


async def test_a_login_sets_a_cookie_that_scripts_cannot_read(
    browser: aiohttp.ClientSession, dashboard: Dashboard
) -> None:
    assert await log_in(browser, dashboard, "wrong") == 401
    assert await status_of(browser, dashboard) == 401
    async with browser.post(url_of(dashboard, "/login"), data={"token": TOKEN}, allow_redirects=False) as response:
        cookie = response.headers["Set-Cookie"]
        assert (response.status, response.headers["Location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert await status_of(browser, dashboard) == 200
    assert await status_of(browser, dashboard, "/api/v1/session") == 200
    async with browser.post(url_of(dashboard, "/logout"), allow_redirects=False) as response:
        assert response.headers["Location"] == "/login"
    assert await status_of(browser, dashboard) == 401


async def test_the_cookie_is_secure_behind_https(browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
    headers = {"X-Forwarded-Proto": "https"}
    async with browser.post(
        url_of(dashboard, "/login"), data={"token": TOKEN}, headers=headers, allow_redirects=False
    ) as response:
        assert "Secure" in response.headers["Set-Cookie"]


async def test_a_forged_or_old_cookie_is_refused(browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
    name = f"llmendpoint_login_{dashboard.port}"
    later = int(time.time()) + 1000
    for value in ("", "x", f"{later}.", f"{later}.{'0' * 64}", "²²²²²²²²²².00", f"{10**20}.00"):
        assert await status_of(browser, dashboard, Cookie=f"{name}={value}".encode().decode("latin-1")) == 401, value


async def test_a_login_survives_a_restart_and_ends_with_the_token(
    browser: aiohttp.ClientSession,
    start_dashboard: StartDashboard,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TOKEN_CHECK_SECONDS", 0.0)
    first = await start_dashboard(auth=Auth(AuthMode.TOKEN, token_file))
    assert await log_in(browser, first, TOKEN) == 303
    cookie = next(one for one in browser.cookie_jar if one.key.startswith("llmendpoint_login"))
    second = await start_dashboard(auth=Auth(AuthMode.TOKEN, token_file))
    headers = {"Cookie": f"llmendpoint_login_{second.port}={cookie.value}"}
    assert await status_of(browser, second, **headers) == 200
    token_file.write_text("another-token-0123456789")
    assert await status_of(browser, second, **headers) == 401
    assert await status_of(browser, second, Authorization="Bearer another-token-0123456789") == 200
    # A file that cannot be read leaves the last token in use.
    token_file.unlink()
    assert await status_of(browser, second, Authorization="Bearer another-token-0123456789") == 200


async def test_wrong_tokens_are_limited_even_for_the_right_one(
    browser: aiohttp.ClientSession, dashboard: Dashboard
) -> None:
    for _ in range(10):
        assert await log_in(browser, dashboard, "guess") == 401
    assert await log_in(browser, dashboard, TOKEN) == 429
    assert await status_of(browser, dashboard, Authorization=f"Bearer {TOKEN}") == 429


def test_the_limit_is_per_address_and_in_total_and_ends_after_a_minute() -> None:
    now = [0.0]
    failures = module.Failures(lambda: now[0])
    for _ in range(10):
        failures.add("a")
    assert failures.are_too_many("a")
    assert not failures.are_too_many("b")
    now[0] = 61
    assert not failures.are_too_many("a")
    for number in range(200):
        failures.add(f"peer-{number}")
    assert failures.are_too_many("new")
    for number in range(10_000):
        failures.add(f"many-{number}")
    assert len(failures._peers) <= 4096


@pytest.mark.parametrize(
    ("content", "words"), [("short", "shorter than 16"), ("x" * 5000, "longer than"), (None, "No such file")]
)
def test_a_token_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(APIKeyError, match=words) as caught:
        module.TokenFile(path)
    assert "xxx" not in str(caught.value)


async def test_the_header_of_a_proxy_is_believed_only_from_its_address(
    browser: aiohttp.ClientSession, start_dashboard: StartDashboard
) -> None:
    def auth(network: str) -> Auth:
        return Auth(AuthMode.HEADER, None, "X-Forwarded-User", (ipaddress.ip_network(network),))

    behind = await start_dashboard(auth=auth("127.0.0.0/8"))
    assert await status_of(browser, behind, X_Forwarded_User="alice") == 200
    assert await status_of(browser, behind) == 401
    assert await status_of(browser, behind, X_Forwarded_User=" ") == 401
    other = await start_dashboard(auth=auth("10.0.0.0/8"))
    assert await status_of(browser, other, X_Forwarded_User="alice", X_Forwarded_For="10.0.0.1") == 401
