"""The site of the documentation: `make docs`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import markdown
import pytest
from markdown_it import MarkdownIt
from website.links import DeadLinkError, for_site
from website.lists import with_deep_indents

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
#: Elements in which a page shows content of another host. Links are not among them.
_LOADED = re.compile(r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*?(?:src|href|data)=\"?(https?:[^\s\">]*)")


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "scripts")}
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(site),
    ]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    missing = [
        str(page.relative_to(DOCS))
        for page in PAGES
        if not (site / page.relative_to(DOCS).with_suffix("") / "index.html").exists()
        and not (
            page.name in ("README.md", "index.md") and (site / page.parent.relative_to(DOCS) / "index.html").exists()
        )
    ]
    assert missing == []


def test_every_page_can_be_found(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text())
    found = {document["location"].partition("#")[0] for document in index["docs"]}
    assert {"", "setup/", "conditions/", "how-to/clients/", "runbooks/LLMEndpointSaturated/"} <= found
    assert len(found) == len(PAGES)


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 100
    assert {found for page in pages for found in _LOADED.findall(page.read_text())} == set()
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?https?:", styles) == []


def test_no_page_makes_the_theme_ask_another_host(site: Path) -> None:
    """The script of the theme loads Mermaid from a CDN for a diagram, and asks GitHub about a repository."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert 'class="mermaid"' not in text
        assert 'data-md-component="source"' not in text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[page](absent.md)", "absent.md does not exist"),
        ("[heading](other.md#absent)", "does not contain an anchor '#absent'"),
        ("[page](/other.md)", "absolute link"),
    ],
)
def test_a_dead_link_fails_the_build(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Home\n\n{text}\n")
    (tmp_path / "docs/other.md").write_text("# Other\n")
    for name in ("website_hooks.py", "website", "reference"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        (tmp_path / "scripts" / name).symlink_to(ROOT / "scripts" / name)
    settings = (ROOT / "mkdocs.yml").read_text()
    settings = re.sub(r"^nav:.*", "nav: [index.md, other.md]\n", settings, flags=re.DOTALL | re.MULTILINE)
    settings = re.sub(r"^  (logo|favicon): .*\n", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def structure(html: str) -> list[str]:
    return re.findall(r"<(/?(?:ul|ol|li|pre|table|tr|h[1-6]|blockquote|img))\b", html)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_a_page_has_the_lists_and_blocks_that_github_shows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    github = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    extensions = ["attr_list", "md_in_html", "tables", "pymdownx.superfences"]
    assert structure(markdown.markdown(with_deep_indents(text), extensions=extensions)) == structure(github)


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("docs/a.md", "../README.md#top", "index.md#top"),
        ("docs/a.md", "../SECURITY.md", "https://github.com/llmendpoint/llmendpoint/blob/main/SECURITY.md"),
        ("docs/runbooks/a.md", "../../manifests/", "https://github.com/llmendpoint/llmendpoint/tree/main/manifests"),
        ("docs/a.md", "runbooks/", "runbooks/README.md"),
        ("docs/a.md", "schemas/", "https://github.com/llmendpoint/llmendpoint/tree/main/docs/schemas"),
        ("docs/how-to/a.md", "../install.md#upgrading", "../install.md#upgrading"),
        ("docs/a.md", "https://ollama.com", "https://ollama.com"),
    ],
)
def test_links_lead_to_the_site_or_to_the_repository(page: str, link: str, expected: str) -> None:
    assert for_site(f"See [it]({link}).", PurePosixPath(page), ROOT) == f"See [it]({expected})."


def test_links_in_code_are_left_as_they_are() -> None:
    text = "`[a](absent.md)`\n\n```yaml\n# [b](absent.md)\n```\n"
    assert for_site(text, PurePosixPath("docs/a.md"), ROOT) == text


def test_a_link_to_an_absent_file_is_an_error() -> None:
    with pytest.raises(DeadLinkError, match=r"docs/a\.md: absent\.md does not exist"):
        for_site("[a](absent.md)", PurePosixPath("docs/a.md"), ROOT)


def test_a_list_after_a_paragraph_and_a_nested_one_are_lists() -> None:
    text = "Text:\n- one\n  - inner\n\n  paragraph\n\n  ```sh\n  - code\n  ```\n- two\n"
    assert with_deep_indents(text) == (
        "Text:\n\n- one\n    - inner\n\n    paragraph\n\n    ```sh\n    - code\n    ```\n\n- two\n"
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_command_that_serves_the_site_is_printed() -> None:
    """From a file, the links of the pages end at folders, and the search finds nothing."""
    page = (DOCS / "index.md").read_text()
    serving = next(line for line in page.splitlines() if "http.server" in line)
    recipe = subprocess.run(["make", "--dry-run", "docs"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert f'/{serving}"' in recipe
