"""Print the notes of a release: the section of the changelog about a version.

Exits with 1 and one sentence if the tag is not the version in the file VERSION, or if the changelog has no section
about it. The release workflow runs this before it builds anything.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def release_notes(tag: str, version: str, changelog: str) -> str:
    """Return the notes for a tag. Raises ValueError if the version or the changelog is not ready for it."""
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, but the file VERSION has {version}; the tag of this version is v{version}")
    found = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", changelog, re.M | re.S)
    if found is None or not found[1].strip():
        raise ValueError(
            f"CHANGELOG.md has no section about {version}; rename Unreleased to '[{version}] - YYYY-MM-DD' and run "
            "make generate"
        )
    return found[1].strip() + "\n"


def main() -> int:
    """Print the notes. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", help="Git tag of the release, such as v1.2.3")
    tag = parser.parse_args().tag
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    try:
        print(release_notes(tag, version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")), end="")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
