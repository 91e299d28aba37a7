"""Who is let in: whoever has shown a token, from the page itself or a program, by a name of this server."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

ANY = ("0.0.0.0", "[::]")
"""Hosts that stand for every address of this machine."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What every answer has."""

YEAR = 31_536_000


@dataclass
class Admission:
    """How somebody is let in: by a token in the address, from then on by a cookie."""

    port: int
    host: str = LOOPBACK[0]
    """What is listened on; an IPv6 address in brackets."""

    token: str | None = None
    """What its owner chose, which lets in any number; None: one is made that lets in once."""

    hosts: Collection[str] = ()
    """Other names in addresses that lead here, as of a proxy."""

    _once: str | None = field(default_factory=lambda: secrets.token_urlsafe(32))
    _session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def address(self) -> str:
        """Where a browser is let in."""
        shown = LOOPBACK[0] if self.host in ANY else self.host
        return f"http://{shown}:{self.port}/?token={quote(self.token or self._once or '', safe='')}"

    @property
    def cookie(self) -> str:
        """The cookie's name; servers on one machine share their cookies, whatever their ports."""
        return f"imgrec-{self.port}"

    def admits(self, token: str) -> bool:
        """Whether a token lets in; one that lets in once is used up by that."""
        if self.token is not None:
            return _equal(token, self.token)
        if self._once is None or not _equal(token, self._once):
            return False
        self._once = None
        return True

    def knows(self, request: Request) -> bool:
        """Whether somebody was let in before, or a program says the token that was chosen."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if self.token is not None and kind.lower() == "bearer" and _equal(token, self.token):
            return True
        return _equal(request.cookies.get(self.cookie, ""), self._session)

    def is_ours(self, host: str) -> bool:
        """Whether a `Host` is a name of this server, with or without its port.

        On every address of the machine any IP address is: what has to be kept out are names of others that lead
        here, and an address is no name.
        """
        name, port = _split(host)
        if port not in (None, self.port):
            return host.lower() in self.hosts
        is_any = self.host in ANY and _is_ip(name)
        return is_any or name in (*LOOPBACK, self.host, *self.hosts)

    def let_in(self, response: Response) -> None:
        """Begin a session: for the folder of the page's address, which a proxy may have below another one."""
        response.set_cookie(self.cookie, self._session, httponly=True, samesite="strict", path=None)


class Guard:
    """Refuses what is not for this server, or not from its page, or from somebody who was not let in.

    The page's own files are no secret: only what begins with `/api/` needs a session. So a link to a view can be
    followed from anywhere, although its cookie is not sent along to begin with.

    Args:
        app: what is guarded.
        admission: who is let in.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app, self._admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before anything of its body is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope)
        await (self._answer(request) or self._app)(scope, receive, send_safely)

    def _answer(self, request: Request) -> Response | None:
        """What is answered without the application; None: it is to answer."""
        path, token = request.url.path, request.query_params.get("token")
        if (reason := self._foreign(request)) is not None:
            return refusal(path, 403, reason)
        if path == "/" and token is not None:
            return self._entered(request, token)
        if path.startswith("/api/") and not self._admission.knows(request):
            return refusal(path, 401, "no session: open the address that imgrec explore has printed")
        return None

    def _foreign(self, request: Request) -> str | None:
        """Why a request is not for this server or not from its page; None if it is."""
        headers = request.headers
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._admission.is_ours(host):
            return "this server has another name: hosts= allows more"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and not _is_first_navigation(request):
            return "asked for by another site"
        origin = headers.get("origin")
        if origin is not None and site != "same-origin":  # which a browser says of a proxy's other name, too
            netloc = urlsplit(origin).netloc
            if not netloc or netloc not in (host, *self._admission.hosts):
                return "asked for by another origin"
        return None

    def _entered(self, request: Request, token: str) -> Response:
        """Let somebody in, to the view that the address has beside the token."""
        if not self._admission.knows(request) and not self._admission.admits(token):
            reason = "this token is wrong, or has let in a browser already: start imgrec explore again"
            return refusal("/", 403, reason)
        others = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        response = RedirectResponse(f"./?{urlencode(others)}" if others else "./", 303)
        self._admission.let_in(response)
        return response


def refusal(path: str, status: int, reason: str) -> Response:
    """An error for whoever asked: JSON for programs, text for people."""
    if path.startswith("/api/"):
        return JSONResponse({"error": reason}, status)
    return PlainTextResponse(f"imgrec: {reason}\n", status)


def _is_first_navigation(request: Request) -> bool:
    """Whether somebody follows a link from elsewhere to the page."""
    headers = request.headers
    is_navigation = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return is_navigation and request.method == "GET" and request.url.path == "/"


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="surrogateescape"), other.encode(errors="surrogateescape"))


def _split(host: str) -> tuple[str, int | None]:
    """A `Host` as its name, in lower case, and its port; a port that is none is -1."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or port.endswith("]"):
        return host.lower(), None
    return name, int(port) if port.isascii() and port.isdigit() else -1


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
