"""A server of the page in a process of its own, as people start it, and a client without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imgrec

TOKEN = "a-token-of-the-tests"


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    address: str
    """As it was printed, with a token."""

    @property
    def port(self) -> int:
        found = re.search(r":(\d+)/", self.address)
        assert found is not None
        return int(found[1])

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=200)

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """Ask as somebody whom the token lets in, unless `Authorization` says otherwise."""
        given = {"Authorization": f"Bearer {TOKEN}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, {name: value for name, value in given.items() if value})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str) -> Any:
        """What an address has, as JSON."""
        answer = self.ask(path)
        assert answer.status == 200, answer.body
        return answer.json()

    def made(self, name: str) -> Any:
        """A map, when it is made."""
        self.ask(f"/api/maps/{name}", "POST")
        return self.until(f"/api/maps/{name}", {"state": "made"})

    def until(self, path: str, wanted: Mapping[str, Any]) -> Any:
        """What an address has as soon as it is as wanted."""
        for _ in range(3_000):
            found = self.get(path)
            if {name: found.get(name) for name in wanted} == wanted:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{path} has {found}")

    def memory(self) -> int:
        """The most bytes that it has taken so far."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+)", text)[0])


def two_spaces(folder: Path, photos: Path) -> Path:
    """A folder with a gallery of two spaces and a fusion of them."""
    store = imgrec.build("store", "sqlite", path=str(folder / "outputs" / "gallery.sqlite"))
    parts = {"colour": imgrec.build("extractor", "colour"), "hog": imgrec.build("extractor", "hog")}
    imgrec.ingest(photos, imgrec.Fusion(weights={"colour": 1, "hog": 1}, parts=parts), store)
    return folder


@contextlib.contextmanager
def proxy(port: int, below: str) -> Iterator[str]:
    """The address of a reverse proxy that serves a port of this machine below a path, and nothing else.

    As nginx does by default, it asks by the server's own name.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, rest = head.split(b" ", 2)
            if not path.startswith(below.encode() + b"/"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            rest = re.sub(rb"(?mi)^(host|connection): .*\r\n", b"", rest)
            _, _, headers = rest.partition(b"\r\n")
            length = int((re.findall(rb"(?mi)^content-length: (\d+)", headers) or [0])[0])
            own = b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n" % port
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(to_server):
                to_server.write(method + b" " + path[len(below) :] + own + headers)
                to_server.write(await reader.readexactly(length))
                writer.write(await from_server.read())
                await writer.drain()

    async def run() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
            address.put(listening.sockets[0].getsockname()[1])
            await asyncio.to_thread(is_over.wait)

    address, is_over = queue.SimpleQueue[int](), threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{address.get(timeout=30)}{below}"
    finally:
        is_over.set()
        thread.join()


@contextlib.contextmanager
def serving(folder: Path, *words: str, token: str | None = TOKEN) -> Iterator[Server]:
    """`imgrec explore` in a folder with a gallery, on a free port, ended by Ctrl-C."""
    command = [sys.executable, "-m", "imgrec", "explore", "open=false", "port=0", *words]
    process = subprocess.Popen(
        [*command, *([f"token={token}"] if token else [])],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        address = process.stdout.readline().strip()
        assert address, process.stderr.read()
        yield Server(process, address)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.stdout.close()
            process.stderr.close()
