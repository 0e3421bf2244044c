"""Certificates for tests of TLS."""

from __future__ import annotations

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
