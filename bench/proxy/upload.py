"""Upload a blob of many gigabytes through the proxy: is its memory flat?

    python bench/proxy/upload.py [--gigabytes 10]

Upstream and sidecar are processes of their own; the upload is chunked, from this one. Prints the sidecar's resident
memory before, its peak after (VmHWM), and the rate with and without the proxy.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
UPSTREAM, PROXY, ADMIN = 21434, 21440, 21441
_PIECE = bytes(1024 * 1024)


def upload(port: int, gigabytes: float) -> float:
    """Send a blob in chunks of 1 MiB; return the seconds until its answer."""
    head = b"POST /api/blobs/sha256:0 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(head)
        for _ in range(int(gigabytes * 1024)):
            sock.sendall(b"100000\r\n" + _PIECE + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
        answer = sock.recv(65536)
    if not answer.startswith(b"HTTP/1.1 20"):
        raise SystemExit(f"the upload was refused: {answer[:100]!r}")
    return time.monotonic() - begin


def memory(pid: int) -> dict[str, float]:
    """Return resident memory and its peak, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    gigabytes = parser.parse_args().gigabytes
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        subprocess.run(["go", "build", "-o", f"{folder}/upstream", "./upstream"], cwd=HERE, check=True)
        sidecar = [sys.executable, "-m", "llmendpoint_sidecar", "--listen", f"127.0.0.1:{PROXY}", "--admin-listen", f"127.0.0.1:{ADMIN}",
                   "--upstream", f"http://127.0.0.1:{UPSTREAM}", "--drain-delay", "0", "--log-level", "warning"]  # fmt: skip
        pids = []
        for core, command in (("0", [f"{folder}/upstream"]), ("1", sidecar)):
            process = subprocess.Popen(["taskset", "-c", core, *command])
            stack.callback(process.wait)
            stack.callback(process.terminate)
            pids.append(process.pid)
        time.sleep(2)
        direct = upload(UPSTREAM, gigabytes / 10) * 10
        before = memory(pids[1])
        through = upload(PROXY, gigabytes)
        after = memory(pids[1])
    print(f"{gigabytes:g} GB: {through:.1f} s through the proxy, {direct:.1f} s without (from a tenth)")
    print(f"resident {before['VmRSS']:.1f} MB before, {after['VmHWM']:.1f} MB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
