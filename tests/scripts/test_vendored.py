"""The copies of the dashboard's libraries: they match their hashes and the lock file, and a change is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from vendored import PACKAGES, VENDOR, Places, VendorError, problems, resolve_imports


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Copies of the vendored files and of the lock file, without installed packages."""
    shutil.copytree(VENDOR, tmp_path / "vendor")
    shutil.copy(PACKAGES / "package-lock.json", tmp_path)
    return Places(tmp_path / "vendor", tmp_path)


def test_the_copies_in_the_package_are_current() -> None:
    assert list(problems(Places())) == []


def test_a_changed_file_is_noticed(places: Places) -> None:
    path = places.vendor / "preact.js"
    path.write_bytes(path.read_bytes() + b"\n")
    assert list(problems(places)) == [f"{path} differs from its hash in vendor.json"]


def test_a_missing_file_is_noticed(places: Places) -> None:
    (places.vendor / "LICENSE.preact").unlink()
    assert list(problems(places)) == [f"{places.vendor / 'LICENSE.preact'} is missing"]


def test_a_file_that_is_not_listed_is_noticed(places: Places) -> None:
    (places.vendor / "other.js").touch()
    assert list(problems(places)) == [f"{places.vendor / 'other.js'} is not in vendor.json"]


def test_another_version_in_the_lock_file_is_noticed(places: Places) -> None:
    lock = places.packages / "package-lock.json"
    lock.write_text(lock.read_text().replace('"integrity": "sha512-', '"integrity": "sha512-other'))
    assert any("another preact" in problem for problem in problems(places))


def test_imports_become_names_of_files() -> None:
    source = b'import{h as r}from"preact";export{h}from "preact";import e from"htm";\n//# sourceMappingURL=a.map\n'
    assert (
        resolve_imports(source)
        == b'import{h as r}from"./preact.js";export{h}from "./preact.js";import e from"./htm.js";\n'
    )


def test_an_import_that_is_not_vendored_is_an_error() -> None:
    with pytest.raises(VendorError, match="imports react, which is not vendored"):
        resolve_imports(b'import x from "react";')
