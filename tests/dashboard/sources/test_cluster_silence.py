"""What the page says while the API server has never answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kubernetes.aio.client import Configuration

from llmendpoint_dashboard.cluster.client import ApiServer
from llmendpoint_dashboard.sources.cluster import ClusterSource
from llmendpoint_dashboard.state import Hub
from support.api_server.control_plane import free_port
from support.waiting import eventually


async def test_an_api_server_that_was_never_reached_names_the_setting_of_the_chart() -> None:
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{free_port()}"
    server = ApiServer(configuration)
    source = ClusterSource(server, (), Hub(), lambda _: None, lambda _: ())
    running = asyncio.create_task(source.run())
    try:
        await eventually(lambda: "does not answer" in source.message)
        assert source.message.startswith(f"The API server {configuration.host} does not answer: ")
        assert "`kubectl get endpointslices kubernetes`" in source.message
        assert "networkPolicy.apiServerPorts" in source.message
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await server.close()
