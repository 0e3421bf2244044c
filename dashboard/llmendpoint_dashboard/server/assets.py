"""The files of the front end, which are read into memory at the start. A path is only a key here, never a file name."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from llmendpoint_dashboard.server.answers import problem

#: The folder of the front end in the package.
WEB_FOLDER = Path(__file__).parent.parent / "web"
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain",
    ".md": "text/plain",
}
_TEXT = frozenset({".html", ".js", ".mjs", ".css", ".svg", ".json", ".txt", ".md", ".webmanifest"})
_INDEX = "index.html"


@dataclass(frozen=True)
class Asset:
    """A file with its type and its tag. `packed` is empty if compressing it saves nothing."""

    content: bytes
    packed: bytes
    type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> Asset:
        """Read a file."""
        content = path.read_bytes()
        packed = gzip.compress(content, mtime=0) if path.suffix in _TEXT else b""
        digest = hashlib.sha256(content).hexdigest()[:32]
        return cls(content, packed if len(packed) < len(content) else b"", _TYPES[path.suffix], f'"{digest}"')


class Assets:
    """Serves the page and its modules."""

    def __init__(self, folder: Path = WEB_FOLDER) -> None:
        files = folder.rglob("*") if folder.is_dir() else ()
        self._assets = {
            path.relative_to(folder).as_posix(): Asset.read(path)
            for path in files
            if path.suffix in _TYPES and path.is_file()
        }

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the page."""
        return [web.get("/", self._index), web.get("/web/{path:.+}", self._file)]

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._serve(request, _INDEX)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._serve(request, request.match_info["path"])

    def _serve(self, request: web.Request, name: str) -> web.StreamResponse:
        asset = self._assets.get(name)
        if asset is None:
            return problem(HTTPStatus.NOT_FOUND, "There is no such file.")
        headers = {"ETag": asset.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if asset.tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        body = asset.content
        if asset.packed and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"], body = "gzip", asset.packed
        charset = "utf-8" if asset.type.startswith("text/") else None
        return web.Response(body=body, headers=headers, content_type=asset.type, charset=charset)
