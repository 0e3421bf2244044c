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


def issue_without_key_identifiers(folder: Path) -> tuple[Path, Path, Path]:
    """Write a CA, and a certificate of it for localhost without an Authority Key Identifier, as EKS has them.

    Returns the CA, the certificate and its key.
    """
    authority, authority_key = folder / "authority.crt", folder / "authority.key"
    cert, key, request = folder / "server.crt", folder / "server.key", folder / "server.csr"
    extensions = folder / "server.ext"
    extensions.write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=none\nsubjectKeyIdentifier=none\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    commands: tuple[list[str | Path], ...] = (
        ["req", "-x509", *curve, "-days", "2", "-subj", "/CN=kubernetes", "-keyout", authority_key, "-out", authority],
        ["req", *curve, "-subj", "/CN=kube-apiserver", "-keyout", key, "-out", request],
        ["x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-set_serial", "7", "-days", "2",
         "-extfile", extensions, "-out", cert],
    )  # fmt: skip
    for command in commands:
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return authority, cert, key


async def subject(port: int, cert: Path) -> str:
    """Return the common name that a client sees, with the certificate verified."""
    context = ssl.create_default_context(cafile=str(cert))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    seen = writer.get_extra_info("peercert")["subject"][0][0][1]
    writer.close()
    await writer.wait_closed()
    return str(seen)
