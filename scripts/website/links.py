"""Links between files of the repository, as the site needs them."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

#: Where files are that the site does not have.
SOURCE = "https://github.com/llmendpoint/llmendpoint"
_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^()\s#]+)(?P<fragment>#[^()\s]*)?(?P<after>\))")
_CODE = re.compile(r"(^ *(```|~~~).*?^ *\2|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


class DeadLinkError(ValueError):
    """A link to a file that the repository does not have."""


def for_site(markdown: str, page: PurePosixPath, root: Path) -> str:
    """Return the Markdown of a page with the links that the site needs.

    A link to a file outside the documentation leads to the repository on GitHub, one to the README to the first page of
    the site, and one to a folder to its README. `page` is relative to the root of the repository. Code stays as it is.

    Raises DeadLinkError.
    """
    done, end = [], 0
    for code in _CODE.finditer(markdown):
        done += [_LINK.sub(lambda link: _link(link, page, root), markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join(done) + _LINK.sub(lambda link: _link(link, page, root), markdown[end:])


def _link(link: re.Match[str], page: PurePosixPath, root: Path) -> str:
    target, fragment = link["target"], link["fragment"] or ""
    if "://" in target or target.startswith("mailto:"):
        return link[0]
    path = PurePosixPath(os.path.normpath(page.parent / target))
    if not (root / path).exists():
        raise DeadLinkError(f"{page}: {target} does not exist")
    return f"{link['before']}{_target(path, page, root)}{fragment}{link['after']}"


def _target(path: PurePosixPath, page: PurePosixPath, root: Path) -> str:
    docs = PurePosixPath("docs")
    if path == PurePosixPath("README.md"):
        path = docs / "index.md"
    elif (root / path / "README.md").is_file() and path.is_relative_to(docs):
        path = path / "README.md"
    if path.is_relative_to(docs) and (root / path).is_file():
        return os.path.relpath(path, page.parent)
    return f"{SOURCE}/{'tree' if (root / path).is_dir() else 'blob'}/main/{path}"
