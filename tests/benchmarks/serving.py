"""The server of the page: answers to many at a time, uploads, thumbnails, selections; for the part `page`."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import random
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image

import imgrec
import tiles
from benchmarks import ingest
from benchmarks.answer import fill
from benchmarks.report import Report
from benchmarks.search import DIM, ROWS
from serving import TOKEN, Server, serving

K, CLIENTS, ASKED = 20, 8, 150
"""Neighbours, clients at a time, and how often each of them asks."""

NAMES = [f"{number:064x}" for number in range(1_000, 2_000)]
"""Contents of the gallery that are asked with."""

LARGE = (4_000, 3_000)
"""The size of an upload, 12 megapixels."""

SELECTED = 100_000


def add(report: Report) -> None:
    """Measure the server, and add what is found to the page's report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, *photos = tiles.cut(folder / "photos", columns=3, rows=2)
        large = fill(folder, imgrec.build("extractor", "colour"), DIM, photos)
        with serving(folder, f"store.path={large}") as server:
            _answers(report, server, large, photos[0])
            _selections(report, server)
    with tempfile.TemporaryDirectory() as name:
        photos = ingest.photographs(Path(name) / "photos", 200)
        extractor = ingest.model() if importlib.util.find_spec("timm") else imgrec.build("extractor", "colour")
        imgrec.ingest(Path(name) / "photos", extractor, imgrec.build("store", "sqlite", path=f"{name}/g.sqlite"))
        with serving(Path(name), f"store.path={name}/g.sqlite") as server:
            _pictures(report, server, photos)


def _answers(report: Report, server: Server, store: Path, picture: Path) -> None:
    found = server.get(f"/api/recommend?q=d:{digest_of(picture)}&k={K}")
    command = ["recommend", str(picture), f"k={K}", "format=json", f"store.path={store}"]
    done = subprocess.run(
        [sys.executable, "-m", "imgrec", *command], capture_output=True, check=True, cwd=store.parent
    )
    told = json.loads(done.stdout)
    report.hold("answers equal to the command line's JSON", found == {**found, **told}, at_least=1, unit="")
    times, _, used = _asked(server, 1)
    what = f"api/recommend, k={K}, of {ROWS:,} x {DIM:,}"
    report.add(f"{what}, median", 1000 * float(np.median(times)), "ms")
    report.add(f"{what}, of the CPU", used, "ms")
    rounds = [_asked(server, CLIENTS) for _ in range(3)]
    times, took, used = max(rounds, key=lambda each: len(each[0]) / each[1])
    report.add(f"{what}, of the CPU with {CLIENTS} clients", used, "ms")
    what = f"api/recommend, k={K}, {CLIENTS} clients, best of {len(rounds)} rounds"
    report.hold(f"{what}, p95", 1000 * float(np.percentile(times, 95)), at_most=50, unit="ms")
    report.hold(f"{what}, a second", len(times) / took, at_least=250, unit="")
    report.hold("torch or OpenVINO loaded before an upload", loads_models(server), at_most=1e-9, unit="")


def _asked(server: Server, clients: int) -> tuple[list[float], float, float]:
    """Ask over connections that stay, with next to no CPU of our own.

    Returns:
        The seconds of each answer, those of all together, and the server's milliseconds of CPU for one.
    """
    chosen, times, began = random.Random(clients), list[float](), time.perf_counter()
    used = _cpu(server)
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as ready:

        def ask(connection: socket.socket) -> None:
            path = f"/api/recommend?q=d:{chosen.choice(NAMES)}&k={K}"
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            connection.sendall(head.encode())
            ready.modify(connection, selectors.EVENT_READ, (time.perf_counter(), bytearray()))

        for _ in range(clients):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            ready.register(connection, selectors.EVENT_READ)
            ask(connection)
        while len(times) < clients * ASKED:
            for key, _ in ready.select():
                start, answer = key.data
                assert isinstance(key.fileobj, socket.socket)
                answer += key.fileobj.recv(2**16)
                head, end, body = answer.partition(b"\r\n\r\n")
                if end and len(body) == int(re.findall(rb"(?i)content-length: (\d+)", head)[0]):
                    assert b" 200 " in head[:15]
                    times.append(time.perf_counter() - start)
                    ask(key.fileobj)
    return times, time.perf_counter() - began, 1000 * (_cpu(server) - used) / len(times)


def _cpu(server: Server) -> float:
    """Seconds of CPU that the server has had."""
    words = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _selections(report: Report, server: Server) -> None:
    name = next(each for each in server.get("/api/gallery")["maps"] if each.endswith("~pca"))
    server.made(name)
    body = json.dumps({"map": name, "rows": list(range(SELECTED)), "format": "csv"})
    start = time.perf_counter()
    answer = server.ask("/api/selections", "POST", body, Content_Type="application/json")
    report.hold(f"api/selections, CSV of {SELECTED:,} rows", time.perf_counter() - start, at_most=2, unit="s")
    report.hold(
        f"api/selections, CSV rows of {SELECTED:,}", answer.body.count(b"\n") - 1, at_least=SELECTED, unit=""
    )


def _pictures(report: Report, server: Server, photos: list[Path]) -> None:
    name = next(each for each in server.get("/api/gallery")["maps"] if each.endswith("~tsne"))
    server.made(name)
    times = []
    for photo in photos[:6]:
        file = io.BytesIO()
        with PIL.Image.open(photo) as picture:
            picture.resize(LARGE).save(file, "JPEG", quality=88)
        start = time.perf_counter()
        upload = server.ask(f"/api/queries?maps={name}", "POST", file.getvalue(), Content_Type="image/jpeg").json()
        server.get(f"/api/recommend?q={upload['q']}&k={K}")
        times.append(time.perf_counter() - start)
    report.add("an upload of 12 megapixels, placed and answered, first", times[0], "s")
    report.hold("an upload of 12 megapixels, placed and answered, warm", max(times[1:]), at_most=1, unit="s")
    rounds: tuple[list[float], list[float]] = ([], [])
    for photo in photos:
        for each in rounds:
            start = time.perf_counter()
            server.ask(f"/api/thumbs/{digest_of(photo)}/96.webp")
            each.append(1000 * (time.perf_counter() - start))
    for when, each, most in zip(("cold", "warm"), rounds, (150, 20), strict=True):
        report.hold(f"a thumbnail, {when}, p95", float(np.percentile(each, 95)), at_most=most, unit="ms")


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def loads_models(server: Server) -> bool:
    """Whether a library that runs models is in the server's memory."""
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    return "/torch/" in mapped or "/openvino/" in mapped
