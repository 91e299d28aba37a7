"""Listens on an address of this machine, and serves an application until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgrec.errors import UsageError

MOST_CONNECTIONS = 200
"""Connections at a time; for one more, the one that has asked for nothing for longest is closed."""

KEPT_ALIVE = 30
"""Seconds that a connection stays open after an answer."""

LINGER = 2
"""Seconds in which what is left of a refused body is read and dropped."""

GRACE = 5
"""Seconds that Ctrl-C waits for what is being answered."""


class Connection(H11Protocol):
    """A connection; those that only take up room make room for others."""

    idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and if there are too many close another."""
        super().connection_made(transport)
        # asyncio does so itself only for sockets that name their protocol; else an answer's body waits 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.idle_since = time.monotonic()
        if len(self.connections) > MOST_CONNECTIONS:
            others = [each for each in self.connections if isinstance(each, Connection) and each.is_idle]
            min(others, key=lambda each: each.idle_since, default=self).transport.abort()

    def on_response_complete(self) -> None:
        """Note that it is idle from now on, and close it if a body is still coming that was refused.

        Not at once: its sender would not get to read the answer.
        """
        self.idle_since = time.monotonic()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(LINGER, self.transport.close)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered."""
        return self.cycle is None or self.cycle.response_complete


def listen(host: str, port: int) -> socket.socket:
    """Begin to listen.

    Args:
        host: a name or address of this machine.
        port: 0 for any that is free.

    Raises:
        UsageError: the port is taken, or the address is not this machine's.
    """
    try:
        *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        return socket.create_server(address[:2], family=family, backlog=MOST_CONNECTIONS)
    except PermissionError:
        raise UsageError(f"port={port} is one that only the system may listen on: take one above 1023") from None
    except OSError as error:
        hint = "; port=0 takes one that is free" if port else ""
        raise UsageError(f"{host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}{hint}") from None


def server(app: ASGIApp) -> uvicorn.Server:
    """A server; `run(sockets=[...])` serves until Ctrl-C, and answers what is being answered then.

    Args:
        app: what answers.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEPT_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
    )
