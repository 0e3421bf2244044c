"""The side door on 8001: metrics, status and probes, served by aiohttp and never by the data path."""
