"""A small server of object storage, S3's protocol and plain HTTP, that is slow, busy and broken as it is told.

`python tests/faulty_storage.py` serves in a process of its own: see `elsewhere`.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).parent))
from object_storage import environment_of

CHANGED_AT = 1_700_000_000
"""When each object was written last, in seconds since 1970."""


@dataclass
class Faulty:
    """What the server has, and how it behaves."""

    objects: Mapping[str, bytes] = field(default_factory=dict)
    latency: float = 0.0
    """Seconds before each answer."""

    busy: Counter[str] = field(default_factory=Counter)
    """How many times more an object, or the bucket as ``, is answered with 503."""

    cut: Counter[str] = field(default_factory=Counter)
    """How many times more an object's body breaks off in the middle."""

    on_half: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens when half of an object is sent, once."""

    is_away: bool = False
    """Whether there is no bucket."""

    refuses_head: int = 0
    """The status that a HEAD is answered with; 0: as others are."""

    asked: Counter[str] = field(default_factory=Counter)
    """Requests by method and key, `LIST` of listings."""

    under_way: int = 0
    most_at_once: int = 0
    """The most requests that were under way together."""

    endpoint: str = ""
    bucket: str = field(default_factory=lambda: f"bucket-{os.urandom(6).hex()}")
    """Any name leads to the objects, this one in no other test."""

    def url(self, key: str = "") -> str:
        """The address of something in the bucket."""
        return f"s3://{self.bucket}/{key}"

    def web(self, key: str) -> str:
        """The same as an address of the web."""
        return f"{self.endpoint}/{self.bucket}/{key}"

    def page(self, prefix: str, start: int, most: int) -> list[str]:
        """Some of the keys that begin with a prefix, in their order."""
        if isinstance(self.objects, Numbered):
            return [self.objects.key(number) for number in range(start, min(start + most, len(self.objects)))]
        return sorted(key for key in self.objects if key.startswith(prefix))[start : start + most]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a process needs to use it."""
        return environment_of(self.endpoint)


def files_in(folder: Path) -> dict[str, bytes]:
    """The files of a folder as objects, by their paths in it."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


class Numbered(Mapping[str, bytes]):
    """A great many objects, all alike, that take no memory."""

    def __init__(self, count: int, body: bytes) -> None:
        self._count, self._body = count, body

    def __getitem__(self, key: str) -> bytes:
        found = re.fullmatch(r"n/(\d{9})\.jpg", key)
        if found and int(found[1]) < self._count:
            return self._body
        raise KeyError(key)

    def key(self, number: int) -> str:
        return f"n/{number:09}.jpg"

    def __iter__(self) -> Iterator[str]:
        return map(self.key, range(self._count))

    def __len__(self) -> int:
        return self._count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms between its head and its body
    faulty: Faulty

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        split = urllib.parse.urlsplit(self.path)
        _, _, key = urllib.parse.unquote(split.path).lstrip("/").partition("/")
        query = dict(urllib.parse.parse_qsl(split.query))
        method = "LIST" if "list-type" in query else self.command
        self.faulty.asked[f"{method} {query.get('prefix', '') if method == 'LIST' else key}"] += 1
        self.faulty.under_way += 1
        self.faulty.most_at_once = max(self.faulty.most_at_once, self.faulty.under_way)
        time.sleep(self.faulty.latency)
        self.faulty.under_way -= 1
        if self.faulty.busy[key] > 0:
            self.faulty.busy[key] -= 1
            self._answer(503, b"<Error><Code>SlowDown</Code></Error>")
        elif self.command == "HEAD" and self.faulty.refuses_head:
            self._answer(self.faulty.refuses_head, b"")
        elif self.faulty.is_away:
            self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif method == "LIST":
            self._answer(200, self._listing(query))
        else:
            self._object(key)

    def _object(self, key: str) -> None:
        if (body := self.faulty.objects.get(key)) is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        tag = _tag(body)
        if self.headers.get("If-Match") not in (None, "*", tag):
            self._answer(412, b"")
            return
        headers = {"ETag": tag, "Last-Modified": email.utils.formatdate(CHANGED_AT, usegmt=True)}
        status = 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(found[1]), min(int(found[2] or len(body)) + 1, len(body))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
            status, body = 206, body[start:end]
        self._answer(status, body, headers, key)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, key: str = "") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2])
        if happens := self.faulty.on_half.pop(key, None):
            happens()
        if status in (200, 206) and self.faulty.cut[key] > 0:
            self.faulty.cut[key] -= 1
            self.close_connection = True
            return
        self.wfile.write(body[len(body) // 2 :])

    def _listing(self, query: Mapping[str, str]) -> bytes:
        prefix, most = query.get("prefix", ""), int(query.get("max-keys", 1000))
        start = int(query.get("continuation-token", 0))
        some = self.faulty.page(prefix, start, most)
        entries = "".join(map(self._entry, some))
        is_more = len(some) == most
        more = f"<NextContinuationToken>{start + most}</NextContinuationToken>" if is_more else ""
        about = f"<Prefix>{escape(prefix)}</Prefix><IsTruncated>{str(is_more).lower()}</IsTruncated>"
        return f"<ListBucketResult>{about}{more}{entries}</ListBucketResult>".encode()

    def _entry(self, key: str) -> str:
        body = self.faulty.objects[key]
        changed = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(CHANGED_AT))
        about = f"<LastModified>{changed}</LastModified><ETag>{escape(_tag(body))}</ETag><Size>{len(body)}</Size>"
        return f"<Contents><Key>{escape(key)}</Key>{about}</Contents>"

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the usual 5, a connection too many is tried again after a second
    daemon_threads = True


@functools.lru_cache(maxsize=4096)
def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


@contextlib.contextmanager
def faulty_storage() -> Iterator[Faulty]:
    """The server, in threads of this process."""
    faulty = Faulty()
    handler = type("Handler", (_Handler,), {"faulty": faulty})
    with _Server(("127.0.0.1", 0), handler) as server:
        faulty.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield faulty
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def elsewhere(objects: Path | int, latency: float = 0.0) -> Iterator[Faulty]:
    """The server in a process of its own, with the files of a folder, or with so many objects that are alike."""
    command = [sys.executable, __file__, str(objects), str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Faulty(endpoint=process.stdout.readline().strip())
        finally:
            process.stdin.close()


def main(objects: str, latency: str) -> None:
    with faulty_storage() as faulty:
        is_count = objects.isdecimal()
        faulty.objects = Numbered(int(objects), b"1" * 1000) if is_count else files_in(Path(objects))
        faulty.latency = float(latency)
        print(faulty.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
