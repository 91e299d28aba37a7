"""The errors that are told in one line, without a traceback, and their exit codes."""

from __future__ import annotations


class ImgrecError(Exception):
    """A failure that is told in one line, without a traceback. Exit code 1."""

    exit_code = 1


class UsageError(ImgrecError):
    """Something the user can put right: an option, a file, an absent library. Exit code 2."""

    exit_code = 2


class NoStoreError(UsageError):
    """There is no store where one was to be opened."""
