"""Hooks of MkDocs, which mkdocs.yml names: it calls these functions while it builds the site of the documentation."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath
from typing import Any

from reference.markdown import anchor
from website.links import DeadLinkError, for_site
from website.lists import with_deep_indents

ROOT = Path(__file__).parent.parent
#: Warnings of this logger make `mkdocs build --strict` fail.
_log = logging.getLogger("mkdocs.hooks.website")


def on_config(config: Any) -> Any:
    """Give headings the anchors that they have on GitHub, and list the pages of folders in the navigation."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = lambda text, _separator: anchor(text)
    config.nav = [_expanded(entry) for entry in config.nav]
    return config


def on_page_markdown(markdown: str, page: Any, **_rest: Any) -> str:
    """Return the Markdown of a page as Python-Markdown needs it."""
    try:
        markdown = for_site(markdown, PurePosixPath("docs") / page.file.src_uri, ROOT)
    except DeadLinkError as error:
        _log.warning("%s", error)
    return with_deep_indents(markdown)


def _expanded(entry: Any) -> Any:
    """Return an entry of the navigation with all pages of a folder in place of a path that ends with a slash."""
    if isinstance(entry, dict):
        return {title: _expanded(value) for title, value in entry.items()}
    if isinstance(entry, list):
        return [_expanded(value) for value in entry]
    if not entry.endswith("/"):
        return entry
    pages = sorted(path.name for path in (ROOT / "docs" / entry).glob("*.md"))
    return [entry + name for name in sorted(pages, key=lambda name: name != "README.md")]
