"""explore: a page to look at a gallery, served on this machine."""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.installation import install_command
from imgrec.kinds import Index, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run
from imgrec.run.viewer import show

LEAST_TOKEN = 16
"""Characters of a token that is chosen: fewer could be guessed."""

LIBRARIES = ("starlette", "uvicorn", "threadpoolctl")

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(kw_only=True)
class Explore(Stage):
    """Serve a page to search the gallery by picture and to walk its map, until Ctrl-C."""

    positional: ClassVar[str | None] = None
    keeps_record: ClassVar[bool] = False

    port: int = option(8765, minimum=0, maximum=65_535, help="of the address; 0: one that is free")
    host: str = option(
        "127.0.0.1", text=True, help="what is listened on; 0.0.0.0, for other machines, wants token="
    )
    token: str | None = option(
        None, text=True, help="lets in whoever knows it, also programs; null: one that lets in one browser"
    )
    hosts: Any = option(None, text=True, help="other names that lead here, as of a proxy; a list of several")
    runs: str = option("outputs", path=True, help="the folder whose runs and sweeps are shown")
    open: bool = option(True, help="show the page in a browser")
    store: Store = component("store")
    index: Index | None = component("index")

    def execute(self, run: Run) -> None:
        """Print the address, show it in a browser, and serve until Ctrl-C."""
        for library in LIBRARIES:
            if importlib.util.find_spec(library) is None:
                raise UsageError(f"imgrec explore needs {library}: {install_command('imgrec[explore]')}")
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise UsageError(f"token= has at least {LEAST_TOKEN} characters, so that nobody guesses it")
        if self.token is None and self.host not in LOCAL:
            raise UsageError(
                f"host={self.host} lets other machines ask: choose a token=, which lets in who knows it"
            )
        from imgrec.serving.api import Served
        from imgrec.serving.application import application
        from imgrec.serving.guard import Admission
        from imgrec.serving.server import listen, server

        with self.store as store, listen(self.host, self.port) as listening:
            served = Served(store, runs=Path(self.runs), index=self.index)
            host = f"[{self.host}]" if ":" in self.host else self.host
            hosts = [self.hosts] if isinstance(self.hosts, str) else self.hosts or []
            hosts = [
                *map(str.lower, map(str, hosts)),
                *([] if self.host in LOCAL else [socket.gethostname().lower()]),
            ]
            admission = Admission(listening.getsockname()[1], host.lower(), self.token, hosts)
            run.print(admission.address)
            if self.host not in LOCAL:
                run.note(
                    f"other machines may ask {hosts[-1]} too, and see all of the gallery if they know the token"
                )
            run.note("Ctrl-C ends it")
            if self.open and (problem := show(admission.address)):
                run.note(problem)
            server(application(served, admission)).run(sockets=[listening])
