"""Certificates for tests of TLS, and the certificate that a client sees."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path


def issue(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a self-signed certificate for localhost, and return it and its key."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def subject(port: int, cert: Path) -> str:
    """Return the common name that a client sees, with the certificate verified."""
    context = ssl.create_default_context(cafile=str(cert))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    seen = writer.get_extra_info("peercert")["subject"][0][0][1]
    writer.close()
    await writer.wait_closed()
    return str(seen)
