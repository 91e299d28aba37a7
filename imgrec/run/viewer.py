"""Shows a picture or a page with the system's viewer, `open=true`; or pictures in the terminal, `preview=true`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from imgrec.options import Options, option
from imgrec.run.preview import draw_picture
from imgrec.run.record import Run

COMMAND = "open" if sys.platform == "darwin" else "xdg-open"


@dataclass(kw_only=True)
class Opens(Options):
    """A stage that draws a picture and may show it inherits from this."""

    open: bool = option(False, help="show the picture with the system's viewer")
    preview: bool = option(False, help="show the picture in the terminal; needs imgrec[preview]")

    def show(self, run: Run, picture: Path) -> None:
        """Show it if that is asked for, without waiting; a line says why it cannot be shown.

        A replay and a sweep's jobs show nothing.
        """
        if run.is_quiet:
            return
        for problem in (
            self.preview and draw_picture(picture, run.stdout),
            self.open and show(str(picture.absolute())),
        ):
            if problem:
                run.note(problem)


def show(what: str) -> str | None:
    """Start the system's viewer of a file or an address and return at once; what is wrong if there is none."""
    if sys.platform == "win32":
        os.startfile(what)
        return None
    if (command := shutil.which(COMMAND)) is None:
        return f"open=true shows nothing: there is no {COMMAND} here"
    try:
        viewer = subprocess.Popen(
            [command, what],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"open=true shows nothing: {command} does not start: {error.strerror}"
    threading.Thread(target=viewer.wait, daemon=True).start()  # so that no ended process is left behind
    return None
