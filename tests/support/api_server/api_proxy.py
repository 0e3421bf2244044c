"""An HTTPS proxy in front of an API server, in a thread of its own. Tests derive proxies with faults from it."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from pathlib import Path

import aiohttp
from aiohttp import web

from support.tls import issue
from support.waiting import wait_until


class ApiProxy:
    """Passes requests to the API server of a kubeconfig. `kubeconfig` is that of the proxy.

    A derived class sets its attributes before it calls `__init__`, which starts the thread.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._certificate, self._key = issue(folder, "localhost")
        document = json.loads(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        self._target, self._authority = cluster["server"], cluster["certificate-authority"]
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)
        self._thread.start()
        wait_until(lambda: self._port)
        cluster |= {"server": f"https://localhost:{self._port}", "certificate-authority": str(self._certificate)}
        self.kubeconfig = folder / "proxy.kubeconfig"
        self.kubeconfig.write_text(json.dumps(document))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)
        self._loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        raise NotImplementedError

    def _stopping(self) -> None:
        """End the connections that do not end by themselves."""

    async def _serve(self) -> None:
        trust = ssl.create_default_context(cafile=self._authority)
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._certificate, self._key)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            self._port = runner.addresses[0][1]
            await self._stopped.wait()
            self._stopping()
            # A process that was killed or stopped does not answer the end of a TLS connection.
            for connection in runner.server.connections if runner.server is not None else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
