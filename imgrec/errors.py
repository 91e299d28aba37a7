"""Errors that are reported in one line, without a traceback, and their exit codes."""

from __future__ import annotations


class ImgrecError(Exception):
    """A failure that is reported in one line, without a traceback. Exit code 1."""

    exit_code = 1


class PluginError(Exception):
    """A defect of a plugin, described in words: neither a bug in imgrec nor a mistake of the user."""


class PluginFailedError(ImgrecError):
    """Code of a plugin raised what it should not; the command line then says how to see where."""


class UsageError(ImgrecError):
    """Something the user can fix: an option, a file, a missing library. Exit code 2."""

    exit_code = 2


class NoStoreError(UsageError):
    """There is no store to open."""
