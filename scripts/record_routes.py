"""Record the routes of a version of Ollama: method and path of each, from its `server/routes.go`.

    python scripts/record_routes.py                # the version in tests/support/wire/go_oracle/go.mod
    python scripts/record_routes.py NAME FILE      # a file of another version, with its name

Writes `tests/common/wire/ollama_routes.json`. A test requires a class for each route, so a new release shows what is
new.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_TARGET = _ROOT / "tests" / "common" / "wire" / "ollama_routes.json"
_ROUTE = re.compile(r'^\s*r\.([A-Z]+)\("([^"]+)"', re.MULTILINE)


def _locked() -> tuple[str, Path]:
    """Return the version of Ollama that the oracle is built with, and its `routes.go`."""
    command = ["go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", "github.com/ollama/ollama"]
    folder = _ROOT / "tests" / "support" / "wire" / "go_oracle"
    run = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    version, folder_of_module = run.stdout.split()
    return version, Path(folder_of_module) / "server" / "routes.go"


def main(arguments: list[str]) -> None:
    """Add the routes of one version to the file, or replace them."""
    name, file = (arguments[0], Path(arguments[1])) if arguments else _locked()
    recorded = json.loads(_TARGET.read_text()) if _TARGET.exists() else {}
    recorded[name] = sorted(_ROUTE.findall(file.read_text()), key=lambda route: (route[1], route[0]))
    lines = ",\n".join(
        f"  {json.dumps(version)}: [\n" + ",\n".join(f"    {json.dumps(route)}" for route in routes) + "\n  ]"
        for version, routes in sorted(recorded.items())
    )
    _TARGET.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
