"""Copy the dashboard's JavaScript libraries from `node_modules` into the package, or check the copies.

Browsers resolve no package names, and an import map would need an inline script, which the page's policy forbids.
Therefore the names in imports are replaced by the names of the vendored files, and references to source maps are
removed. Nothing else in the files is changed.

`vendor.json` has the version, the licence, npm's integrity hash of each package, and the SHA-256 of each file before
and after. The check needs no npm: it compares the files with `vendor.json`, and `vendor.json` with the lock file. If
the packages are installed, it also makes the files again and compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "dashboard/llmendpoint_dashboard/web/vendor"
PACKAGES = ROOT / "tests/browser"

#: Per package: its file and the name of the copy.
FILES = {
    "preact": {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js"},
    "htm": {"dist/htm.mjs": "htm.js", "preact/index.mjs": "htm-preact.js"},
    "@preact/signals-core": {"dist/signals-core.mjs": "signals-core.js"},
    "@preact/signals": {"dist/signals.mjs": "signals.js"},
    "uplot": {"dist/uPlot.esm.js": "uPlot.esm.js", "dist/uPlot.min.css": "uPlot.min.css"},
}
#: The vendored file of each name in an import.
MODULES = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "htm": "./htm.js",
    "@preact/signals-core": "./signals-core.js",
}
#: Where `tsc` finds the types of a copy: the same package, which `paths` of tests/browser/tsconfig.json locates.
TYPES = {
    "preact.d.ts": 'export * from "preact";\n',
    "hooks.d.ts": 'export * from "preact/hooks";\n',
    "htm-preact.d.ts": 'export * from "htm/preact";\n',
    "signals.d.ts": 'export * from "@preact/signals";\n',
    "uPlot.esm.d.ts": 'export { default } from "uplot";\n',
}

_IMPORT = re.compile(rb"""(\bfrom\s*|\bimport\s*)(["'])(@?\w[\w./-]*)\2""")
_SOURCE_MAP = re.compile(rb"\n?//# sourceMappingURL=\S+\s*\Z")


class VendorError(Exception):
    """A library cannot be copied. The message has the reason."""


@dataclass(frozen=True)
class Places:
    """The folder of the copies, and the one of `package-lock.json` and `node_modules`."""

    vendor: Path = VENDOR
    packages: Path = PACKAGES


def main(arguments: list[str] | None = None) -> int:
    """Copy the libraries, or check them with `--check`. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, and exit with 1 if a file is not current")
    if parser.parse_args(arguments).check:
        found = list(problems(Places()))
        for problem in found:
            print(problem, file=sys.stderr)
        return 1 if found else 0
    copy(Places())
    return 0


def copy(places: Places) -> None:
    """Replace the copies, their licences and `vendor.json`. Raises VendorError if a package is not installed."""
    made = dict(_made(places))
    places.vendor.mkdir(parents=True, exist_ok=True)
    for path in places.vendor.iterdir():
        path.unlink()
    for name, data in made.items():
        (places.vendor / name).write_bytes(data)


def problems(places: Places) -> Iterator[str]:
    """Yield a sentence for each file that is missing, changed, not listed, or of another version than the lock file."""
    listed = places.vendor / "vendor.json"
    if not listed.exists():
        yield f"{listed} is missing; run scripts/vendor"
        return
    packages = json.loads(listed.read_text())["packages"]
    hashes = {file["name"]: file["sha256"] for package in packages for file in package["files"]}
    present = {path.name for path in places.vendor.iterdir()} - {"vendor.json", *TYPES}
    for name in sorted(present - hashes.keys()):
        yield f"{places.vendor / name} is not in vendor.json"
    for name, expected in hashes.items():
        if name not in present:
            yield f"{places.vendor / name} is missing"
        elif _sha256((places.vendor / name).read_bytes()) != expected:
            yield f"{places.vendor / name} differs from its hash in vendor.json"
    locked = _lock(places)
    for package in packages:
        if package["integrity"] != locked.get(package["name"], {}).get("integrity"):
            lock = places.packages / "package-lock.json"
            yield f"vendor.json has another {package['name']} than {lock}; run scripts/vendor"
    if (places.packages / "node_modules/preact").is_dir():
        for name, data in _made(places):
            if (places.vendor / name).exists() and (places.vendor / name).read_bytes() != data:
                yield f"{places.vendor / name} differs from what the installed packages give; run scripts/vendor"


def resolve_imports(source: bytes) -> bytes:
    """Return a module whose imports name vendored files. Raises VendorError if it imports something else."""

    def replaced(match: re.Match[bytes]) -> bytes:
        module = MODULES.get(match[3].decode())
        if module is None:
            raise VendorError(f"a module imports {match[3].decode()}, which is not vendored")
        return match[1] + match[2] + module.encode() + match[2]

    return _IMPORT.sub(replaced, _SOURCE_MAP.sub(b"\n", source))


def _made(places: Places) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of all files, `vendor.json` last."""
    locked = _lock(places)
    packages: list[dict[str, Any]] = []
    for package, files in FILES.items():
        folder = places.packages / "node_modules" / package
        if not folder.is_dir():
            raise VendorError(f"{package} is not installed in {places.packages}; run scripts/vendor")
        entries = []
        for source, name in {**files, "LICENSE": f"LICENSE.{package.removeprefix('@').replace('/', '-')}"}.items():
            original = (folder / source).read_bytes()
            data = resolve_imports(original) if name.endswith(".js") else original
            entries.append({"name": name, "source": source, "sourceSha256": _sha256(original), "sha256": _sha256(data)})
            yield name, data
        entry = locked[package]
        packages.append(
            {"name": package, "version": entry["version"], "license": entry["license"],
             "integrity": entry["integrity"], "files": entries}
        )  # fmt: skip
    for name, text in TYPES.items():
        yield name, text.encode()
    yield "vendor.json", (json.dumps({"packages": packages}, indent=2) + "\n").encode()


def _lock(places: Places) -> dict[str, dict[str, str]]:
    lock = json.loads((places.packages / "package-lock.json").read_text())
    return {name.removeprefix("node_modules/"): entry for name, entry in lock["packages"].items() if name}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
