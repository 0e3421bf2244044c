"""Upload a blob of many gigabytes through the proxy, to show that the memory of the proxy does not grow.

    python bench/proxy/upload.py [--gigabytes 10]

The upstream and the sidecar run as separate processes. This process sends the chunked upload. Prints the sidecar's
resident memory before the upload, its peak (VmHWM), and the duration with and without the proxy.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import harness

_PIECE = bytes(1024 * 1024)


def upload(address: str, gigabytes: float) -> float:
    """Send a blob in chunks of 1 MiB. Return the time until the response, in seconds."""
    head = b"POST /api/blobs/sha256:0 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    begin = time.monotonic()
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(head)
        for _ in range(int(gigabytes * 1024)):
            sock.sendall(b"100000\r\n" + _PIECE + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
        answer = sock.recv(65536)
    if not answer.startswith(b"HTTP/1.1 20"):
        raise SystemExit(f"the upload was refused: {answer[:100]!r}")
    return time.monotonic() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    gigabytes = parser.parse_args().gigabytes
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        harness.build(folder)
        stack.enter_context(harness.upstream(folder))
        pid = stack.enter_context(
            harness.running(harness.sidecar(), harness.PROXY_CORE, f"http://{harness.PROXY}/api/version")
        )
        direct = upload(harness.UPSTREAM, gigabytes / 10) * 10
        before = harness.megabytes(pid)
        through = upload(harness.PROXY, gigabytes)
        most = harness.megabytes(pid, "VmHWM")
    print(f"{gigabytes:g} GB: {through:.1f} s through the proxy, {direct:.1f} s without (extrapolated from a tenth)")
    print(f"resident {before:.1f} MB before, {most:.1f} MB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
