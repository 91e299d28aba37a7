"""A download: one request of an address of the web, bounded in bytes, seconds and redirects, off the own network.

A name is resolved once, every address that it has is judged, and the connection goes to one of just these, so that
no second answer of a name server can lead elsewhere. Proxies of the environment are not used: they resolve names
themselves.
"""

from __future__ import annotations

import contextlib
import functools
import http
import http.client
import ipaddress
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping

from imgrec.images.reasons import UnreadableImageError
from imgrec.images.web import TOO_LARGE, AdvisedError, Answer, BusyError, GoneError, PrivateError, RefusedError

SAID = 200
"""Letters of what a server said, in a message."""

MAX_REDIRECTS = 5

CONNECT_SECONDS = 10.0
"""For each address of a name, so that one that is silent leaves time for the next."""

AT_ONCE = 1 << 16

FOUND = (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT)

SAFE = "/%:=&~+!$,;'@()*[]|"
"""Characters that stay as they are in what is asked for; other ones are encoded as browsers do."""

ERRORS = {
    403: RefusedError,
    404: GoneError,
    405: RefusedError,
    410: GoneError,
    429: BusyError,
    501: RefusedError,
    503: BusyError,
}
"""By the status of an answer."""

GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""The IPv4 addresses of the world, as a network without IPv4 sees them (RFC 6052)."""

NOT_PUBLIC = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocols; metadata of Oracle's cloud
    ipaddress.ip_network("168.63.129.16/32"),  # metadata of Azure, a public address that never leaves it
)
"""Networks that `ipaddress` takes for global, at least in Python 3.11."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; IPv4 inside of IPv6 counts as that.

    >>> is_public("8.8.8.8"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1"), is_public("64:ff9b::8.8.8.8")
    (True, False, False, True)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in GLOBAL_UNICAST:
            return False
    is_special = ip.is_multicast or ip.is_reserved or any(ip in network for network in NOT_PUBLIC)
    return ip.is_global and not is_special


def _printable(error: Exception) -> str:
    """What an error says, which may be what a server sent: without control characters, and not long."""
    strerror = error.strerror if isinstance(error, OSError) else None  # without its number
    said = (strerror or str(error))[:SAID]
    return "".join(letter if letter.isprintable() else "?" for letter in said)


class Download:
    """One request of an address, which another thread can stop."""

    def __init__(
        self,
        method: str,
        headers: Mapping[str, str],
        max_bytes: int,
        seconds: float,
        *,
        private_addresses: bool,
    ) -> None:
        self._method, self._headers = method, headers
        self._max_bytes = max_bytes
        self._ends = time.monotonic() + seconds
        self._private_addresses = private_addresses
        self._socket: socket.socket | None = None

    def run(self, address: str) -> Answer | Exception:
        """The answer, or the error that says why there is none."""
        try:
            return self._followed(address)
        except (UnreadableImageError, TimeoutError) as error:
            return error
        except ssl.SSLCertVerificationError as error:
            return UnreadableImageError(f"its certificate is not trusted: {error.verify_message}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return UnreadableImageError(f"the connection broke: {_printable(error) or type(error).__name__}")

    def stop(self) -> None:
        """Close the connection, if there is one, whatever the other thread waits for."""
        if (open_socket := self._socket) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(open_socket, socket.SHUT_RDWR)  # that of a TLS socket would change it

    def _followed(self, address: str) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            found = self._answer(address)
            if isinstance(found, Answer):
                return found
            address = urllib.parse.urljoin(address, found)
        raise UnreadableImageError(f"more than {MAX_REDIRECTS} redirects")

    def _answer(self, address: str) -> Answer | str:
        """What an address answers, or where it redirects to."""
        secure, host, port, target = _split(address)
        with contextlib.closing(self._connected(host, port, secure=secure)) as connected:
            cls = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            connection = cls(host, port)
            connection.sock = connected
            connection.request(self._method, target, headers=self._headers)
            with connection.getresponse() as response:
                location = response.headers.get("Location")
                if 300 <= response.status < 400 and location:
                    return location
                if response.status not in FOUND:
                    phrase = http.client.responses.get(response.status, "")
                    raise ERRORS.get(response.status, UnreadableImageError)(
                        f"{host} answers {response.status} {phrase}".strip()
                    )
                return Answer(self._body(response, connected), response.headers)

    def _body(self, response: http.client.HTTPResponse, connected: socket.socket) -> bytes:
        body, whole = bytearray(), response.length  # None if it is not told
        while max(len(body), whole or 0) <= self._max_bytes:
            connected.settimeout(self._left())
            if some := response.read1(AT_ONCE):
                body += some
            elif whole is not None and len(body) < whole:
                raise UnreadableImageError(f"the connection broke after {len(body):,} of {whole:,} bytes")
            else:
                return bytes(body)
        raise UnreadableImageError(f"{TOO_LARGE}: more than {self._max_bytes:,} bytes")

    def _left(self) -> float:
        if (left := self._ends - time.monotonic()) <= 0:
            raise TimeoutError
        return left

    def _connected(self, host: str, port: int, *, secure: bool) -> socket.socket:
        """A connection to one of the addresses that were judged."""
        failure: OSError | None = None
        for family, kind, protocol, _, place in self._places(host, port):
            connected = self._socket = socket.socket(family, kind, protocol)
            try:
                connected.settimeout(min(self._left(), CONNECT_SECONDS))
                connected.connect(place)
                connected.settimeout(self._left())
                if secure:
                    connected = self._socket = _tls().wrap_socket(connected, server_hostname=host)
            except ssl.SSLError:
                connected.close()
                raise
            except OSError as error:
                connected.close()
                failure = error
            else:
                return connected
        self._left()
        raise _without_proxy(f"{host} does not answer{failure and f': {_printable(failure)}'}", secure=secure)

    def _places(self, host: str, port: int) -> list[tuple[int, int, int, str, tuple[str | int, ...]]]:
        """What a name resolves to.

        Raises:
            UnreadableImageError: to nothing, or to an address that is not allowed.
        """
        try:
            places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise _without_proxy(f"there is no host {host}", secure=port == 443) from None
        for *_, place in places:
            if not self._private_addresses and not is_public(str(place[0])):
                which = host if host == place[0] else f"{host} is {place[0]}, which"
                raise PrivateError(f"{which} is not on the public internet", ": private_addresses=true allows it")
        return places  # type: ignore[return-value]


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _split(address: str) -> tuple[bool, str, int, str]:
    """Whether an address is `https`, its host and port, and what is asked for there.

    Raises:
        UnreadableImageError: it is no such address, or has a password.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        scheme, port = parts.scheme.lower(), parts.port
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii").decode()
    except ValueError as error:  # UnicodeError is one
        raise UnreadableImageError(f"it is no address: {error}") from None
    if scheme not in ("http", "https"):
        raise UnreadableImageError(f"it leads to {scheme}://, and http:// and https:// are read")
    if not host:
        raise UnreadableImageError("it is no address: it names no host")
    if parts.username is not None or parts.password is not None:
        raise AdvisedError(
            "it has a user or password, which would be kept in the run's record",
            ": curl -u ... | imgrec recommend -",
        )
    target = urllib.parse.quote(parts.path or "/", safe=SAFE)
    if parts.query:
        target += f"?{urllib.parse.quote(parts.query, safe=f'{SAFE}?')}"
    return scheme == "https", host, port or (443 if scheme == "https" else 80), target


def _without_proxy(reason: str, *, secure: bool) -> UnreadableImageError:
    """An error, with a hint where the environment names a proxy."""
    if ("https" if secure else "http") in urllib.request.getproxies():
        return AdvisedError(f"{reason}; proxies are not used", ": curl ADDRESS | imgrec recommend -")
    return UnreadableImageError(reason)
