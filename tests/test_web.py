"""Pictures from the web, from a server on 127.0.0.1: what is fetched, and what is refused."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from imgrec.images import UnreadableImageError, download, web

PICTURE = bytes(range(256)) * 40


class Pages(BaseHTTPRequestHandler):
    """What the server answers, by path."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        name, _, rest = self.path.lstrip("/").partition("/")
        getattr(self, f"_{name.partition('?')[0]}", self._missing)(rest)

    def _answer(self, data: bytes, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _missing(self, rest: str) -> None:
        self._answer(b"nothing here", status=404)

    def _picture(self, rest: str) -> None:
        self._answer(PICTURE, Content_Length=str(len(PICTURE)))

    def _untold(self, rest: str) -> None:
        self._answer(PICTURE)

    def _page(self, rest: str) -> None:
        self._answer(b"<html>", Content_Type="text/html; charset=utf-8")

    def _large(self, rest: str) -> None:
        self._answer(b"", Content_Length="100000000")

    def _endless(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def _broken(self, rest: str) -> None:
        self._answer(PICTURE, Content_Length=str(len(PICTURE) + 1))

    def _hops(self, rest: str) -> None:
        left = int(rest)
        self._answer(b"", status=302, Location=f"/hops/{left - 1}" if left else "/picture")

    def _to(self, rest: str) -> None:
        self._answer(b"", status=301, Location=rest)

    def _silent(self, rest: str) -> None:
        time.sleep(3)

    def _drip(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(30):
            self.wfile.write(b".")
            self.wfile.flush()
            time.sleep(0.1)

    def _slow(self, rest: str) -> None:
        for _ in range(30):
            self.wfile.write(b"H")
            self.wfile.flush()
            time.sleep(0.1)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has enough
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as running:
        running.daemon_threads, running.block_on_close = True, False
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("path", ["picture", "untold", "hops/4", "picture?a=b c&d=é", "picture#part"])
def test_the_bytes_at_an_address(server: str, path: str) -> None:
    assert web.fetch(f"{server}/{path}", private_addresses=True) == PICTURE


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone", "127.0.0.1 answers 404 Not Found"),
        ("large", "too large: more than 50,000,000 bytes"),
        ("hops/5", "more than 5 redirects"),
        ("broken", "the connection broke after 10,240 of 10,241 bytes"),
        ("to/ftp://example.org/a.jpg", "it leads to ftp://, and http:// and https:// are read"),
        ("to/file:///etc/passwd", "it leads to file://, and http:// and https:// are read"),
    ],
)
def test_what_is_refused(server: str, path: str, reason: str) -> None:
    with pytest.raises(UnreadableImageError) as refused:
        web.fetch(f"{server}/{path}", private_addresses=True)
    assert str(refused.value) == reason


def test_more_bytes_than_allowed(server: str) -> None:
    fetch: Callable[..., bytes] = web.fetch
    assert len(fetch(f"{server}/untold", max_bytes=len(PICTURE), private_addresses=True)) == len(PICTURE)
    for path in ("untold", "picture"):
        with pytest.raises(UnreadableImageError, match="too large: more than 10,239 bytes"):
            fetch(f"{server}/{path}", max_bytes=len(PICTURE) - 1, private_addresses=True)
    with pytest.raises(UnreadableImageError, match="too large"):
        fetch(f"{server}/endless", max_bytes=300_000, private_addresses=True)


@pytest.mark.parametrize("path", ["silent", "drip", "slow"])
def test_the_time_is_for_everything_together(server: str, path: str) -> None:
    with pytest.raises(UnreadableImageError, match=r"no whole answer within 0\.3 seconds"):
        web.fetch(f"{server}/{path}", seconds=0.3, private_addresses=True)


def test_a_name_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any, **__: Any) -> list[Any]:
        time.sleep(1)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(UnreadableImageError, match=r"no whole answer within 0\.2 seconds"):
        web.fetch("http://silent.example/a.jpg", seconds=0.2)


def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(UnreadableImageError, match=r"127\.0\.0\.1 does not answer: .*refused"):
            web.fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/", private_addresses=True)


def test_what_is_no_address_and_what_holds_a_password() -> None:
    for address in ("http://", "http:///a.jpg", "http://[::1/a.jpg", "http://a:b/", f"http://{'a' * 64}.é/"):
        with pytest.raises(UnreadableImageError, match=r"it is no address|there is no host"):
            web.fetch(address)
    with pytest.raises(UnreadableImageError, match="user or password") as refused:
        web.fetch("https://me:secret@example.org/a.jpg")
    assert "secret" not in str(refused.value)


def test_a_proxy_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(UnreadableImageError, match=r"no host no\.such\.host\.invalid; proxies are not used: curl"):
        web.fetch("http://no.such.host.invalid/")


# --- the own network ----------------------------------------------------------------------------------------

OWN = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254
172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 fe80::1 fe80::1%1 fc00::1 fd00:ec2::254 fec0::1 ff02::1 2001:db8::1 100::1 2001::1
::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b:1::1
2002:7f00:1:: 2002:c0a8:1:: 5f00::1
""".split()

PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
169.253.0.1 172.15.255.255 172.32.0.1 192.167.255.255 192.169.0.0 223.255.255.255
2606:4700::1111 2a00:1450:4001::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1
""".split()


@pytest.mark.parametrize(("addresses", "expected"), [(OWN, False), (PUBLIC, True)])
def test_which_addresses_are_public(addresses: list[str], expected: bool) -> None:
    assert [each for each in addresses if download.is_public(each) is not expected] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0", "[::1]"])
def test_every_way_to_write_this_computer_is_refused(host: str) -> None:
    with pytest.raises(UnreadableImageError, match="is not on the public internet: private_addresses=true"):
        web.fetch(f"http://{host}:1/a.jpg")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name server: the answers by name, one a call, the last one for all later calls; and what was connected."""
    known: dict[str, list[str]] = {"connected": []}
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def answer(host: str, port: int, **how: Any) -> Any:
        if host not in known:
            return look_up(host, port, **how)
        addresses = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return [place for address in addresses.split() for place in look_up(address, port, **how)]

    def connected(self: socket.socket, place: Any) -> None:
        known["connected"].append(place[0])
        # The public ones lead to this computer's server.
        connect(self, ("127.0.0.1", place[1]))

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setattr(socket.socket, "connect", connected)
    return known


def test_a_name_is_asked_for_once_and_the_checked_address_connected(
    server: str, names: dict[str, list[str]]
) -> None:
    port = server.rpartition(":")[2]
    names["rebinds.example"] = ["8.8.8.8", "127.0.0.1"]
    Pages.asked.clear()
    assert web.fetch(f"http://rebinds.example:{port}/picture") == PICTURE
    assert names["connected"] == ["8.8.8.8"]
    assert Pages.asked == [("/picture", f"rebinds.example:{port}")]


@pytest.mark.parametrize("addresses", ["127.0.0.1", "8.8.8.8 10.0.0.1", "8.8.8.8 ::ffff:10.0.0.1"])
def test_a_name_of_the_own_network_is_refused(addresses: str, names: dict[str, list[str]]) -> None:
    names["inside.example"] = [addresses]
    with pytest.raises(UnreadableImageError, match=r"inside\.example is .* not on the public internet"):
        web.fetch("http://inside.example/a.jpg")
    assert names["connected"] == []


@pytest.mark.parametrize(
    "place", ["http://127.0.0.1:1/", "http://10.0.0.1/", "//inside.example/", "http://[::1]/"]
)
def test_a_redirect_to_the_own_network_is_refused(server: str, place: str, names: dict[str, list[str]]) -> None:
    names |= {"outside.example": ["8.8.8.8"], "inside.example": ["169.254.169.254"]}
    with pytest.raises(UnreadableImageError, match="not on the public internet"):
        web.fetch(f"http://outside.example:{server.rpartition(':')[2]}/to/{place}")
    assert names["connected"] == ["8.8.8.8"]


def test_the_next_address_is_tried(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port, look_up = int(server.rpartition(":")[2]), socket.getaddrinfo
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        places = [("127.0.0.2", taken.getsockname()[1]), ("127.0.0.1", port)]
        both = [found for place in places for found in look_up(*place, type=socket.SOCK_STREAM)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        assert web.fetch("http://two.example/picture", private_addresses=True) == PICTURE


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str | None]]]:
    """The port of a server with a certificate for `named.example`, and the names that clients ask it for."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=named.example".split()
    command += ["-addext", "subjectAltName=DNS:named.example", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    download._tls.cache_clear()
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as running:
        running.daemon_threads, running.block_on_close = True, False
        running.socket = context.wrap_socket(running.socket, server_side=True)
        running.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that do not trust it
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield str(running.server_port), asked
        running.shutdown()
    download._tls.cache_clear()


def test_a_certificate_is_of_the_name_not_of_the_address(
    secure: tuple[str, list[str | None]], names: dict[str, list[str]]
) -> None:
    port, asked = secure
    names |= {"named.example": ["8.8.8.8"], "other.example": ["8.8.4.4"]}
    assert web.fetch(f"https://named.example:{port}/picture") == PICTURE
    with pytest.raises(UnreadableImageError, match="its certificate is not trusted: Hostname mismatch"):
        web.fetch(f"https://other.example:{port}/picture")
    assert asked == ["named.example", "other.example"]
