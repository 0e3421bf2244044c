"""Which certificates of an API server the operator accepts, in its own requests and in those of kopf."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from llmendpoint_operator.cluster.client import ApiServer, load_configuration
from llmendpoint_operator.watching.kopf_login import Login
from support.tls import issue, issue_without_key_identifiers

pytestmark = pytest.mark.usefixtures("strict_defaults")

StartServer = Callable[[Path, Path], Awaitable[int]]


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """Return a function that starts a server with a certificate and its key, and returns its port."""
    runners: list[web.AppRunner] = []

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"token": request.headers.get("Authorization")})

    async def start(cert: Path, key: Path) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        app = web.Application()
        app.router.add_get("/version", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        return int(runner.addresses[0][1])

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def use_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes the operator use an address, a CA and a token."""
    for name in ("KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)

    def use(port: int, authority: Path, *, host: str = "localhost", token: str = "t") -> None:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {"name": "c", "cluster": {"server": f"https://{host}:{port}", "certificate-authority": str(authority)}}
            ],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path = tmp_path / f"{host}-{token}.kubeconfig"
        path.write_text(json.dumps(document))
        monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))

    return use


async def ask_as_operator() -> object:
    server = ApiServer(await load_configuration())
    try:
        return await server.request("GET", "/version")
    finally:
        await server.close()


async def ask_as_kopf() -> object:
    login = Login()
    connection = await login.login()
    try:
        async with connection.aiohttp_session.get(f"{connection.server}/version") as response:
            return await response.json()
    finally:
        await login.close()


both = pytest.mark.parametrize("ask", [ask_as_operator, ask_as_kopf])
Ask = Callable[[], Awaitable[object]]


@both
async def test_a_certificate_without_an_authority_key_identifier_is_accepted(
    ask: Ask, start_server: StartServer, use_kubeconfig: Callable[..., None], tmp_path: Path
) -> None:
    authority, cert, key = issue_without_key_identifiers(tmp_path)
    port = await start_server(cert, key)
    strict = ssl.create_default_context(cafile=str(authority))
    with pytest.raises(ssl.SSLCertVerificationError, match="Authority Key Identifier"):
        await asyncio.open_connection("localhost", port, ssl=strict)
    use_kubeconfig(port, authority)
    assert await ask() == {"token": "Bearer t"}


@both
async def test_a_certificate_of_another_authority_is_refused(
    ask: Ask, start_server: StartServer, use_kubeconfig: Callable[..., None], tmp_path: Path
) -> None:
    _, cert, key = issue_without_key_identifiers(tmp_path)
    other, _ = issue(tmp_path, "kubernetes")
    use_kubeconfig(await start_server(cert, key), other)
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await ask()


@both
async def test_a_certificate_for_another_name_is_refused(
    ask: Ask, start_server: StartServer, use_kubeconfig: Callable[..., None], tmp_path: Path
) -> None:
    authority, cert, key = issue_without_key_identifiers(tmp_path)
    use_kubeconfig(await start_server(cert, key), authority, host="127.0.0.1")
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await ask()


async def test_kopf_gets_the_same_session_only_while_its_credentials_are_the_same(
    use_kubeconfig: Callable[..., None], tmp_path: Path
) -> None:
    authority, _, _ = issue_without_key_identifiers(tmp_path)
    login = Login()
    use_kubeconfig(1, authority)
    first = await login.login()
    assert await login.login() == first
    use_kubeconfig(1, authority, token="renewed")
    renewed = await login.login()
    assert renewed != first
    assert renewed.aiohttp_session.headers["Authorization"] == "Bearer renewed"
    for connection in (first, renewed):
        await connection.aiohttp_session.close()
