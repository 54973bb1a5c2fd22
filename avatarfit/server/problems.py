"""Every refusal is {"detail": one sentence}, with the status that fits."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from avatarfit.contracts import AvatarfitError
from avatarfit.server.errors import BusyError, FullError, MissingError, UnknownError

_log = logging.getLogger("avatarfit.server")
_STATUS: dict[type[AvatarfitError], int] = {UnknownError: 404, BusyError: 429, FullError: 503, MissingError: 501}
_SENTENCES = {
    404: "there is nothing at that address",
    405: "that address takes no such request",
    422: "the body came in letters that are not UTF-8; wanted JSON; send it so",
}
_LONGEST = 200


class Problem(BaseModel):
    """What went wrong."""

    detail: str
    """One sentence: what came, what was wanted, what to do."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of its refusals."""
    return {status: {"model": Problem} for status in statuses}


def status_of(error: AvatarfitError) -> int:
    """HTTP's status for an error; 422 for all that is wrong with what came."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 422)


def sentence(error: AvatarfitError) -> str:
    """In one line."""
    return " ".join(str(error).split())


def add_problems(app: FastAPI) -> None:
    """Makes every error of an app a `Problem`."""

    @app.exception_handler(AvatarfitError)
    async def refused(_: Request, error: AvatarfitError) -> JSONResponse:
        status = status_of(error)
        headers = {"Retry-After": "1"} if status in (429, 503) else None
        return JSONResponse({"detail": sentence(error)}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return JSONResponse({"detail": f"{place[:_LONGEST]}: {str(first['msg'])[:_LONGEST]}."}, 422)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        # FastAPI alone says 400, of a body whose letters it cannot read: as wrong as any other.
        status = 422 if error.status_code == 400 else error.status_code
        detail = _SENTENCES.get(status, str(error.detail))
        return JSONResponse({"detail": f"{detail.rstrip('.')}."}, status, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed", exc_info=error)
        return JSONResponse({"detail": "the server failed; wanted an answer; its log says why."}, 500)
