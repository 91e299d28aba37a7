"""What is no photograph although its name says so: a system's folders, imgrec's own, and what a user excludes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from imgrec.errors import UsageError
from imgrec.images.files import Files
from imgrec.images.reasons import UnreadableImageError

if TYPE_CHECKING:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

IGNORE_FILE = ".imgrecignore"
"""A file with patterns as in `.gitignore`, which hold in its folder and below."""

SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@tmp"),  # Synology
        *("@recycle", "@recently-snapshot"),  # QNAP; its .@__thumb is hidden
        *("$recycle.bin", "recycler", "recycled", "system volume information", "thumbs"),  # Windows
        *("__macosx", "network trash folder"),  # macOS
        "lost+found",
    }
)
"""Folders with thumbnails and deleted files, in lower case, besides the hidden ones (`.name`)."""

WRITTEN = {"run.json": b'"stage":', "leaderboard.csv": b"best,"}
"""What the folders of runs and of sweeps are known by: a file, and what stands near its beginning."""

MARK = "ps_d"

_Patterns = tuple[int, list["GitIgnoreSpecPattern"]]
"""How many characters of an absolute path precede what is matched, and the patterns; the last one counts."""


class Exclusion:
    """Decides what is no photograph below some roots, in the way in which git decides what it ignores.

    The patterns given have the last word, then those of `.imgrecignore`, the deepest first. What none of them
    mentions is excluded if it is a system's folder, a hidden one, or one that imgrec writes; `!name/` brings it
    back. What lies in an excluded folder is excluded. A root never is, whatever its name.
    """

    def __init__(self, roots: Iterable[str], patterns: str | Sequence[str] | None = None) -> None:
        """Take absolute roots, and patterns as in `.gitignore`, relative to each root.

        Raises:
            UsageError: a pattern is none.
        """
        several = isinstance(patterns, Sequence) and not isinstance(patterns, str)
        given = list(patterns or ()) if several or patterns is None else [patterns]
        parsed = [_pattern("exclude", each) for each in given]
        self._given = 1 if given else 0
        self._inside: dict[str, list[_Patterns] | None] = {}
        """For each folder the patterns that hold in it, the strongest first; None: it is excluded."""
        for root in roots:
            self._inside[root] = [(_start(root), parsed)] * self._given + _of_folder(root)
        self._roots = frozenset(self._inside)

    def __call__(self, path: str) -> bool:
        """Whether a file or, with a separator at its end, a folder is excluded.

        Raises:
            UsageError: an `.imgrecignore` cannot be read, or has a line that is no pattern.
        """
        bare = path.rstrip(os.sep + "/")
        if bare in self._roots or path in self._roots:
            return False
        if bare != path:
            return self._patterns(bare) is None
        patterns = self._patterns(os.path.split(path)[0])
        return patterns is None or _verdict(path, patterns) is True

    def _patterns(self, folder: str) -> list[_Patterns] | None:
        unknown = []
        while folder not in self._inside and (above := os.path.split(folder)[0]) != folder:
            unknown.append(folder)
            folder = above
        found = self._inside.get(folder, [])
        for each in reversed(unknown):  # no recursion: folders may be a thousand deep
            found = self._inside[each] = None if found is None else self._entered(each, found)
        return found

    def _entered(self, folder: str, above: list[_Patterns]) -> list[_Patterns] | None:
        verdict = _verdict(f"{folder}/", above)
        if verdict or (verdict is None and (_is_of_a_system(folder) or _is_of_imgrec(folder))):
            return None
        own = _of_folder(folder)
        return [*above[: self._given], *own, *above[self._given :]] if own else above


def _verdict(path: str, patterns: Iterable[_Patterns]) -> bool | None:
    """Whether the first patterns that name a path exclude it; None if none does."""
    for start, several in patterns:
        for pattern in reversed(several):
            if _names(pattern, path[start:]):
                return pattern.include
    return None


def _names(pattern: GitIgnoreSpecPattern, path: str) -> bool:
    """Whether a pattern names an entry itself; whether it names a folder above has been asked before.

    pathspec marks the slash behind a name as `ps_d`. What has no such mark means all that a folder holds.
    """
    regex = pattern.regex
    if regex is None:
        return False
    if MARK not in regex.groupindex:
        return bool(regex.search(path.rstrip("/")))
    return any(match[MARK] is None or match.end() == len(path) for match in regex.finditer(path))


def _start(folder: str) -> int:
    return len(os.path.join(folder, ""))


def _of_folder(folder: str) -> list[_Patterns]:
    """The patterns of a folder's `.imgrecignore`, if it has one."""
    if (data := _content(os.path.join(folder, IGNORE_FILE))) is None:
        return []
    lines = data.decode("utf-8-sig", "surrogateescape").splitlines()
    where = os.path.join(folder, IGNORE_FILE)
    return [(_start(folder), [_pattern(where, line) for line in lines if _says_something(line)])]


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _pattern(where: str, text: object) -> GitIgnoreSpecPattern:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # few runs look through folders

    if isinstance(text, str):
        try:
            pattern = GitIgnoreSpecPattern(text)
            if pattern.include is not None:
                return pattern
        except (ValueError, re.error):
            pass
    hint = r": write \# for a name that begins so" if str(text).startswith("#") else ""
    raise UsageError(f"{where}: {text!r} is no pattern as in .gitignore{hint}")


def _is_of_a_system(folder: str) -> bool:
    name = os.path.split(folder)[1]
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _is_of_imgrec(folder: str) -> bool:
    """Whether it is the folder of a run or of a sweep, wherever that is and whatever it is called."""
    return any(mark in (_content(os.path.join(folder, name)) or b"")[:64] for name, mark in WRITTEN.items())


def _content(path: str) -> bytes | None:
    """A small file's bytes; None if there is none.

    Raises:
        UsageError: it cannot be read.
    """
    if "://" in path or not os.path.lexists(path):
        return None
    try:
        return Files().read(path)[0]
    except UnreadableImageError as error:
        raise UsageError(f"{path} {error}") from None
