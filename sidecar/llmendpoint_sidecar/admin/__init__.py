"""The admin port (8001): metrics, status and probes. aiohttp serves it; the data path does not use it."""
