"""Admin port (8001): metrics, status and probes, served by aiohttp. The data path does not use it."""
