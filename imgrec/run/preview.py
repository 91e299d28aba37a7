"""Draws a picture in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from imgrec.installation import install_command


def draw_picture(picture: Path, terminal: TextIO) -> str | None:
    """Draw a picture in a terminal: by its own graphics if it has any, else by coloured blocks; or say why not."""
    if not terminal.isatty():
        return "preview=true shows nothing: stdout is no terminal"
    try:
        from rich.console import Console
        from textual_image.renderable import Image
    except ImportError:
        return f"preview=true shows nothing: it needs textual-image: {install_command('imgrec[preview]')}"
    if picture.suffix == ".svg":
        return "preview=true shows nothing: terminals draw no SVG"
    try:
        Console(file=terminal).print(Image(picture))
    except Exception as error:  # it asks the terminal for its size and abilities; some answer nonsense
        return f"preview=true shows nothing: textual-image fails in this terminal: {error!r}"
    return None
