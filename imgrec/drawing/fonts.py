"""Fonts of drawings: DejaVu Sans, and for letters that it lacks an installed font that has them."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import PIL.ImageFont

log = logging.getLogger(__name__)

Letters = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont

FIRST_OTHER = "\u0250"
"""Before it are Latin letters, which DejaVu Sans has: no other font is looked for."""

FACES = ("bold", "black", "heavy", "light", "thin", "italic", "oblique", "mono")
"""In names of files of fonts that are taken only if no other has the letters."""

MOST_TOLD = 20


def font(size: int, *, bold: bool = False, of: str = "") -> Letters:
    """A font for a text: DejaVu Sans, or an installed one if that lacks letters; without both, Pillow's own.

    Args:
        size: in pixels.
        bold: in DejaVu Sans.
        of: the text.
    """
    return _sized(_other(_lacking(of)) or _dejavu(bold=bold), size)


@functools.lru_cache(maxsize=64)
def _sized(file: Path | None, size: int) -> Letters:
    return PIL.ImageFont.truetype(str(file), size) if file else PIL.ImageFont.load_default(size)


@contextlib.contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Let matplotlib choose a font for each letter of texts, without its warnings of letters that none has."""
    import matplotlib
    from matplotlib import font_manager

    families = ["DejaVu Sans"]
    if file := _other(_lacking("".join(texts))):
        font_manager.fontManager.addfont(file)  # its list may be older than the font
        families.append(font_manager.fontManager.ttflist[-1].name)
    told = logging.getLogger("matplotlib.font_manager")  # that a font has another weight
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph ", UserWarning)  # several for each letter
            yield
    finally:
        told.setLevel(level)


@functools.cache
def _dejavu(*, bold: bool) -> Path | None:
    """As shipped by matplotlib, located without importing it."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if file.exists():
            return file
    return None


def _lacking(text: str) -> frozenset[str]:
    """The letters of a text that DejaVu Sans lacks."""
    others = {letter for letter in text if letter >= FIRST_OTHER and letter.isprintable()}
    usual = _dejavu(bold=False) if others else None
    return frozenset(others - _letters_of(usual)) if usual else frozenset()


_used: list[Path] = []
"""Fonts that had letters of other texts, which are tried first."""

_nowhere: set[str] = set()
"""Letters that no installed font has."""


@functools.lru_cache(maxsize=1024)
def _other(letters: frozenset[str]) -> Path | None:
    """The installed font that has the most of some letters; a line says which none has, the first time."""
    left, found, had = letters - _nowhere, None, set[str]()
    for file in (*_used, *_installed()) if left else ():
        had |= (known := letters & _letters_of(file))
        if len(letters - known) < len(left):
            found, left = file, letters - known
        if not left:
            break
    if found and found not in _used:
        _used.append(found)
    if nowhere := left - had:
        if not _nowhere:
            told = "".join(sorted(nowhere))
            told = told if len(told) <= MOST_TOLD else f"{told[:MOST_TOLD]}..."
            log.warning("boxes stand for letters that no installed font has, %s: those of Noto have them", told)
        _nowhere.update(nowhere)
    return found


@functools.cache
def _installed() -> list[Path]:
    from matplotlib import font_manager

    files = map(Path, font_manager.findSystemFonts())
    return sorted((file for file in files if "lastresort" not in file.stem.lower()), key=_rank)  # that has boxes


def _rank(file: Path) -> tuple[bool, str]:
    name = file.stem.lower()
    return any(face in name for face in FACES), name


@functools.lru_cache(maxsize=64)
def _letters_of(file: Path) -> frozenset[str]:
    """The letters that a font has; none, if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(file)).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()
