"""The page's own files, read once: no address of a request is ever looked for among files."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Response

_KINDS = {
    "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}  # fmt: skip
_INDEX = "index.html"
_VIEWS = ("/", "/obs")
"""The whole page, and the picture alone; the page itself tells them apart."""


def page_routes() -> APIRouter:
    """GET for every file of avatarfit/server/page, and `_VIEWS` for its index."""
    router = APIRouter(include_in_schema=False)
    for file in resources.files("avatarfit.server").joinpath("page").iterdir():
        kind = _KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            for path in _VIEWS if file.name == _INDEX else (f"/{file.name}",):
                _add(router, path, file.read_bytes(), kind)
    return router


def _add(router: APIRouter, path: str, body: bytes, kind: str) -> None:
    @router.get(path)
    async def file() -> Response:
        return Response(body, media_type=kind)
