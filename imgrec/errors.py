"""Errors that are reported in one line, without a traceback, and their exit codes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

Args = ParamSpec("Args")
Result = TypeVar("Result")


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


def runs_within(
    context: Callable[[Any], AbstractContextManager[None]],
) -> Callable[[Callable[Args, Result]], Callable[Args, Result]]:
    """A decorator of methods: they run within a context of their object, and so does an iterator that they return.

    A plugin turns its library's errors into imgrec's so, also while rows are read.

    Args:
        context: makes the context manager, given the object.

    >>> import contextlib
    >>> @contextlib.contextmanager
    ... def told(counter):
    ...     try:
    ...         yield
    ...     except ZeroDivisionError as error:
    ...         raise ImgrecError(f"{counter.name}: {error}") from error
    >>> class Counter:
    ...     name = "counter"
    ...     @runs_within(told)
    ...     def shares(self, counts):
    ...         return (1 / count for count in counts)
    >>> list(Counter().shares([1, 0]))
    Traceback (most recent call last):
    imgrec.errors.ImgrecError: counter: division by zero
    """

    def decorated(method: Callable[Args, Result]) -> Callable[Args, Result]:
        @functools.wraps(method)
        def wrapped(*args: Args.args, **kwargs: Args.kwargs) -> Result:
            with context(args[0]):
                found = method(*args, **kwargs)
            return each(args[0], found) if isinstance(found, Iterator) else found  # type: ignore[return-value]

        return wrapped

    def each(owner: object, found: Iterator[Any]) -> Iterator[Any]:
        with context(owner):
            yield from found

    return decorated
