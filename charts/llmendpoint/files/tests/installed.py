"""Checks an installation: its programs are ready, and the API server serves its kinds. `helm test` runs this in a pod.

It needs no rights: every ServiceAccount may read which kinds the API server serves. Exits with 1 and one sentence if a
check fails.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# Where Kubernetes mounts the credentials of a pod.
CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def get(url: str, credentials: Path | None = None) -> str:
    """Return the body of a response. Raises OSError, which quotes the body of a response with an error code."""
    request = urllib.request.Request(url)
    context = None
    if credentials is not None:
        request.add_header("Authorization", f"Bearer {(credentials / 'token').read_text()}")
        context = ssl.create_default_context(cafile=str(credentials / "ca.crt"))
        # The CAs of many clusters, such as those of EKS, lack an identifier that Python 3.13 requires:
        # https://github.com/kubernetes-client/python/issues/2394
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        text = " ".join(error.read().decode(errors="replace").split())
        raise OSError(f"HTTP {error.code}: {text}") from None
    except urllib.error.URLError as error:
        # The name of a headless Service has an address only while a pod exists.
        advice = "; no pod has this name, see kubectl get pods" if isinstance(error.reason, socket.gaierror) else ""
        raise OSError(f"{error.reason}{advice}") from None


def wait_until_ready(program: str, url: str, seconds: float) -> None:
    """Wait until a program is ready. Raises OSError with its last answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            print(f"The {program} is ready: {get(url).strip()}")
            return
        except OSError as error:
            if time.monotonic() > end:
                raise OSError(f"The {program} is not ready after {seconds:g} s. {url} says: {error}") from None
            time.sleep(1)


def check_kinds(url: str, kinds: list[str], credentials: Path) -> None:
    """Check that the API server serves kinds. Raises OSError if it does not."""
    served = {resource["kind"] for resource in json.loads(get(url, credentials))["resources"]}
    missing = [kind for kind in kinds if kind not in served]
    if missing:
        raise OSError(
            f"The API server does not serve {' and '.join(missing)}. Install the CustomResourceDefinitions: set "
            "crds.install=true, or apply manifests/crds."
        )
    print(f"The API server serves {', '.join(kinds)}.")


def main() -> int:
    """Run the checks. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operator", required=True, help="URL of /readyz of the operator")
    parser.add_argument("--dashboard", default="", help="URL of /readyz of the dashboard, if it is installed")
    parser.add_argument("--api", required=True, help="URL of the API group, with its version")
    parser.add_argument("--kind", action="append", default=[], help="kind that the API server must serve (repeatable)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until each must be ready")
    parser.add_argument("--credentials", type=Path, default=CREDENTIALS, help="folder with token and ca.crt")
    options = parser.parse_args()
    try:
        wait_until_ready("operator", options.operator, options.timeout)
        if options.dashboard:
            wait_until_ready("dashboard", options.dashboard, options.timeout)
        check_kinds(options.api, options.kind, options.credentials)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
