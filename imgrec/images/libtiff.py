"""Hears what libtiff, inside Pillow, complains of: it would print that on stderr, without the file's name."""

from __future__ import annotations

import contextlib
import ctypes
import functools

from imgrec.images import warned

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""`TIFFErrorHandler`: a function's name, a format, and a `va_list`, which is passed as a pointer."""


@functools.cache
def hear() -> None:
    """Take complaints as notes of the thread that decodes (`warned.note`), from now on.

    Where Pillow has libtiff inside itself and shows none of its functions, they go on to stderr.
    """
    from PIL import _imaging

    # A library that is asked for a symbol looks into those that it is linked with, too.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(_handler)


def _note(function: bytes | None, form: bytes, values: int) -> None:
    text = ctypes.create_string_buffer(500)
    ctypes.CDLL(None).vsnprintf(text, len(text), form, ctypes.c_void_p(values))
    name = (function or b"libtiff").decode(errors="replace")
    prefix = "" if name.endswith(".tif") else f"{name}: "  # Pillow's name for a file in memory
    warned.note(prefix + text.value.decode(errors="replace"))


_handler = _Handler(_note)  # kept, since libtiff keeps its address only
