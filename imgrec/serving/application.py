"""The application: operations as routes, errors as JSON, the page's files, all of it guarded."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import mimetypes
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits

import imgrec
from imgrec.errors import ImgrecError, UsageError
from imgrec.images import UnreadableImageError
from imgrec.serving import openapi, parameters
from imgrec.serving.api import JSON, OPERATIONS, Operation, Served
from imgrec.serving.asking import UnknownError
from imgrec.serving.guard import Admission, Guard, refusal
from imgrec.threads import cores

log = logging.getLogger(__name__)

PAGE = Path(imgrec.__file__).parent / "page"
"""The folder of the page's own files."""

STATUS: dict[type[ImgrecError], int] = {UnknownError: 404, UsageError: 400, UnreadableImageError: 422}
"""Of errors; others are 500."""


def application(served: Served, admission: Admission) -> ASGIApp:
    """The application that serves a gallery.

    Args:
        served: what is served.
        admission: who is let in.
    """
    for suffix, kind in ((".js", "text/javascript"), (".css", "text/css")):
        mimetypes.add_type(kind, suffix)  # what a system has of its own may be something else
    threadpool_limits(1, "blas")  # requests side by side are answered sooner than one after the other by all cores
    # Few threads, which wait less for each other, and always the same, since a store has a connection for each.
    pools = {is_slow: ThreadPoolExecutor(max(2, cores()), "imgrec-request") for is_slow in (False, True)}
    routes: list[Any] = [
        Route(each.path, _endpoint(each, served, pools[each.is_slow]), methods=[each.method])
        for each in OPERATIONS
    ]
    described = openapi.document(OPERATIONS)
    routes += [
        Route("/api/openapi.json", lambda _: JSONResponse(described)),
        Route("/", lambda _: FileResponse(PAGE / "index.html", headers=FRESH)),
        Mount("/", _PageFiles(directory=PAGE)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})
    app.router.redirect_slashes = False
    return Guard(app, admission)


FRESH = {"Cache-Control": "no-cache"}
"""A browser asks whether a file has changed."""


class _PageFiles(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


def _endpoint(
    operation: Operation, served: Served, pool: ThreadPoolExecutor
) -> Callable[[Request], Awaitable[Response]]:
    """Answers an operation's requests in a thread of the pool."""

    async def endpoint(request: Request) -> Response:
        given = dict(request.path_params)
        if operation.takes:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != operation.takes and not (operation.takes == "image/*" and kind.startswith("image/")):
                raise HTTPException(415, f"the body's Content-Type is {operation.takes}, not {kind or 'given'}")
            given["body"] = await served.bodies.read(request)
        work = functools.partial(_answer, operation, served, request, given)
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    return endpoint


def _answer(operation: Operation, served: Served, request: Request, given: dict[str, Any]) -> Response:
    try:
        if operation.options is not None:
            given["asked"] = parameters.read(operation.options, request.query_params)
        found = operation.answer(served, **given)
    except ImgrecError as error:
        status = next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 500)
        return _problem(status, " ".join(str(error).split()))
    if not isinstance(found, Response):
        found = Response(json.dumps(found, default=str), media_type=JSON)
    found.headers.setdefault("Imgrec-Version", served.galleries.now.version)
    return found


def _problem(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = refusal(request.url.path, error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return refusal(request.url.path, 500, f"{type(error).__name__}: this is a defect; stderr says where")
