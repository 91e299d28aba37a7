"""What `imgrec explore` refuses, and from whom; and that others are served meanwhile."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

import hostile
import imgrec
from conftest import Cli
from serving import TOKEN, Answer, Server, serving

pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    folder = tmp_path_factory.mktemp("served")
    store = imgrec.build("store", "sqlite", path=str(folder / "outputs" / "gallery.sqlite"))
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), store)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Whatever is done to it, it takes less than 300 MB more memory."""
    with serving(folder) as server:
        before = server.memory()
        yield server
        assert server.memory() - before < 300_000_000


# --- who is let in ----------------------------------------------------------------------------------------------


def test_a_token_lets_in_one_browser_once(folder: Path) -> None:
    with serving(folder, token=None) as server:
        path = server.address.partition(str(server.port))[2]
        assert re.fullmatch(r"/\?token=[\w-]{40,}", path)
        assert server.ask("/api/gallery", Authorization="").status == 401
        assert server.ask("/?token=" + "x" * 43, Authorization="").status == 403
        entered = server.ask(path, Authorization="", Sec_Fetch_Site="none")
        assert (entered.status, entered.headers["Location"]) == (303, "./")
        cookie = entered.headers["Set-Cookie"]
        name = f"imgrec-{server.port}"
        assert re.fullmatch(rf"{name}=[\w-]{{40,}}; HttpOnly; SameSite=strict", cookie)
        session = cookie.partition(";")[0]
        again = server.ask(path, Authorization="")
        assert (again.status, "let in a browser already" in again.body.decode()) == (403, True)
        assert server.ask(path, Authorization="", Cookie=session).status == 303
        assert server.ask("/api/gallery", Authorization="", Cookie=session).status == 200
        token = path.partition("=")[2]
        for headers in (
            {"Cookie": session.replace(name, "imgrec-1")},
            {"Cookie": f"{name}="},
            {"Cookie": f"{name}={token}"},
            {"Authorization": f"Bearer {token}"},
        ):
            answer = server.ask("/api/gallery", **{"Authorization": "", **headers})
            assert (answer.status, "no session" in answer.json()["error"]) == (401, True)


def test_a_token_that_was_chosen_lets_in_whoever_knows_it(server: Server) -> None:
    for view in ("", "view=map&q=d:a&q=d:b&label=h%26%C3%BC"):
        entered = server.ask(f"/?{view}&token={TOKEN}", Authorization="")
        query = urlsplit(entered.headers["Location"]).query
        assert (entered.status, parse_qsl(query)) == (303, parse_qsl(view))
    assert server.ask("/api/gallery").status == 200
    for wrong in ("Bearer x", f"Basic {TOKEN}", "Bearer", TOKEN):
        assert server.ask("/api/gallery", Authorization=wrong).status == 401


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "[::1]"]
)
def test_its_own_names(server: Server, host: str) -> None:
    assert server.ask("/api/gallery", Host=host.format(port=server.port)).status == 200


@pytest.mark.parametrize(
    "host",
    "example.org 127.0.0.1:1 127.0.0.1.example.org:{port} localhost:{port}.example.org [::2] ::1 10.0.0.1:{port} "
    "localhost: user@localhost:{port} localhost:{port}/ 127.0.0.1:0{port}x".split(),
)
def test_other_names(server: Server, host: str) -> None:
    for path in ("/", "/api/gallery", f"/?token={TOKEN}"):
        assert server.ask(path, Host=host.format(port=server.port)).status == 403


def test_another_site_gets_nothing_but_a_first_navigation(server: Server) -> None:
    navigation = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    for site in ("cross-site", "same-site"):
        assert server.ask("/", Sec_Fetch_Site=site, **navigation).status == 200
        assert server.ask(f"/?token={TOKEN}", Sec_Fetch_Site=site, **navigation).status == 303
        for path in ("/api/gallery", "/api/openapi.json", "/index.html"):
            assert server.ask(path, Sec_Fetch_Site=site, **navigation).status == 403
        assert (
            server.ask("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script").status == 403
        )
        assert (
            server.ask("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe").status == 403
        )
    assert server.ask("/api/gallery", Sec_Fetch_Site="same-origin").status == 200
    own = f"http://127.0.0.1:{server.port}"
    assert server.ask("/api/gallery", Origin=own).status == 200
    for origin in ("http://example.org", "null", "http://127.0.0.1:1", f"http://localhost:{server.port}", "x"):
        assert server.ask("/api/gallery", Origin=origin).status == 403
    assert server.ask("/api/queries", "OPTIONS", Origin="http://example.org").status == 403


def test_behind_a_proxy_of_another_name(folder: Path) -> None:
    with serving(folder, "hosts=photos.example.org") as server:
        for host in ("photos.example.org", "127.0.0.1"):
            answer = server.ask("/api/gallery", Host=host, Origin="https://photos.example.org")
            assert answer.status == 200
        assert server.ask("/api/gallery", Host="example.org").status == 403


def test_other_machines_ask_by_name_or_address(folder: Path) -> None:
    token = "words & signs = 1%/é"
    with serving(folder, "host=0.0.0.0", token=token) as server:
        entered = server.ask(server.address.partition(str(server.port))[2], Authorization="")
        assert entered.status == 303
        session = entered.headers["Set-Cookie"].partition(";")[0]
        for host, status in ((socket.gethostname(), 200), (f"10.0.0.1:{server.port}", 200), ("example.org", 403)):
            assert server.ask("/api/gallery", Authorization="", Cookie=session, Host=host).status == status


def test_what_every_answer_says(server: Server) -> None:
    for path in ("/", "/api/gallery", "/api/nothing", "/nothing", "/api/openapi.json"):
        for token in (f"Bearer {TOKEN}", ""):
            headers = server.ask(path, Authorization=token).headers
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none';")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe-" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in headers
            assert "Server" not in headers


def test_other_machines_want_a_token_that_is_no_guess(here: Cli) -> None:
    assert "choose a token=" in here("explore", "host=0.0.0.0", "open=false", code=2).err
    assert "at least 16 characters" in here("explore", "token=guess", "open=false", code=2).err


# --- what is asked for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/..%2f..%2fpyproject.toml",
        "/%2e%2e/__init__.py",
        "/..%5c__init__.py",
        "//etc/passwd",
        "/%00",
        "/api/thumbs/..%2f..%2f..%2fetc%2fpasswd/48.webp",
        "/api/images/..%2f..%2foutputs%2fgallery.sqlite",
        "/api/images/%2fetc%2fpasswd",
        "/api/thumbs/" + "0" * 64 + "/..%2f48.webp",
        "/api/maps/..%2f..~pca/positions",
    ],
)
def test_no_path_leads_out(server: Server, path: str) -> None:
    answer = server.ask(path)
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


def upload(server: Server, body: object, **headers: str) -> Answer:
    return server.ask("/api/queries", "POST", body, **{"Content_Type": "image/png", **headers})


def test_bodies_that_are_refused(server: Server, photos: Path) -> None:
    """Whole, without much memory, and while others are answered."""
    picture = next(photos.rglob("*.jpg")).read_bytes()
    assert upload(server, picture).status == 201
    large = bytes(33_000_000)
    assert upload(server, large).status == 413
    in_chunks = (large[start : start + 100_000] for start in range(0, len(large), 100_000))
    assert upload(server, in_chunks).status == 413
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
    for body, reason in (
        (svg, "SVG"),
        (b"", "empty"),
        (b"MZ" + bytes(100), "not an image"),
        (hostile.png(30_000, 30_000, 1, 0), "too large"),
        (hostile.png(9_000, 9_000, 1, 0), "too large"),
        (hostile.webp(16_000, 16_000), "too large"),
        (hostile.truncated("PNG")[:40], "broken"),
    ):
        answer = upload(server, body)
        assert (answer.status, reason in answer.json()["error"]) == (415, True), answer.body
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""):
        assert upload(server, picture, Content_Type=kind).status == 415
    assert upload(server, picture, Authorization="").status == 401
    assert server.ask("/api/selections", "POST", "[" * 100_000, Content_Type="application/json").status == 400
    assert server.get("/api/gallery")["images"] == 40


def test_a_damaged_upload_is_told_when_it_is_decoded(server: Server) -> None:
    q = upload(server, hostile.truncated("JPEG")).json()["q"]
    answer = server.ask(f"/api/recommend?q={q}")
    assert (answer.status, "cannot be read" in answer.json()["error"]) == (400, True)


def test_a_body_that_comes_slowly_or_not_at_all(folder: Path) -> None:
    """In this process, where patience is short."""
    from imgrec.serving.api import Served
    from imgrec.serving.application import application
    from imgrec.serving.bodies import Bodies
    from imgrec.serving.guard import Admission
    from imgrec.serving.server import listen, server

    with imgrec.build("store", "sqlite", path=str(folder / "outputs" / "gallery.sqlite")) as store:
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        served = Served(store, Bodies(longest=2, pause=0.5))
        made = server(application(served, Admission(port, token=TOKEN)))
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            head = f"POST /api/queries HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            head += "Content-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
            for steps in (0, 100):
                with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                    connection.sendall(head.encode())
                    with contextlib.suppress(OSError):
                        for _ in range(steps):
                            connection.sendall(b"x")
                            time.sleep(0.1)
                    assert b"408" in connection.recv(1000).split(b"\r\n")[0]
        finally:
            made.should_exit = True
            thread.join(30)


def test_five_hundred_connections_that_say_nothing(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for i in range(500):
            with contextlib.suppress(OSError):
                idle = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
                idle.sendall(b"" if i % 2 else b"GET / HTTP/1.1\r\nHost: ")
            if i % 100 == 0:
                assert server.get("/api/gallery")["images"] == 40
        assert server.get("/api/gallery")["images"] == 40


# --- its end, and what it needs ---------------------------------------------------------------------------------


def test_ctrl_c_ends_it_and_what_is_in_flight_is_answered(folder: Path, photos: Path) -> None:
    with serving(folder) as server:
        idle = server.connect()
        idle.connect()
        connection = server.connect()
        picture = next(photos.rglob("*.jpg")).read_bytes()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"}
        connection.putrequest("POST", "/api/queries")
        for name, value in {**headers, "Content-Length": str(len(picture))}.items():
            connection.putheader(name, value)
        connection.endheaders(picture[:1000])
        server.get("/api/gallery")
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        connection.send(picture[1000:])
        assert connection.getresponse().status == 201
        assert server.process.wait(10) == 130
        idle.close()
        connection.close()


def test_a_port_that_is_taken(here: Cli, server: Server, folder: Path) -> None:
    store = f"store.path={folder / 'outputs' / 'gallery.sqlite'}"
    refused = here("explore", "open=false", f"port={server.port}", store, code=2).err
    assert f"127.0.0.1:{server.port} cannot be listened on" in refused
    assert "port=0" in refused
    assert "there is no gallery" in here("explore", "open=false", "port=0", code=2).err


def test_a_base_install_says_what_to_install(here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert re.search(r"imgrec explore needs starlette: .*install .*explore", here("explore", code=2).err)
