"""Lance's errors in a line, without what should not be told."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import imgrec

Args = ParamSpec("Args")
Result = TypeVar("Result")


@contextlib.contextmanager
def errors_of(location: str) -> Iterator[None]:
    """Turn Lance's errors into an ImgrecError that names the store."""
    try:
        yield
    except imgrec.ImgrecError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and ".rs:" not in str(error):
            raise
        raise imgrec.ImgrecError(f"store {location}: {short(error)}") from error


def short(error: BaseException) -> str:
    """A message in a line, without places in Lance's code; of what a server says only code and message.

    The rest of that may have the name of a key.
    """
    text, _, rest = str(error).strip().partition("<")
    told = re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", rest, re.DOTALL)
    text = " ".join([*text.split(), *(told.groups() if told else ())])
    return re.sub(r",? ?/\S+\.rs:\d+:\d+", "", text)[:500]


def naming_the_store(method: Callable[Args, Result]) -> Callable[Args, Result]:
    """Apply `errors_of` to a method and to the iterator that it may return."""

    @functools.wraps(method)
    def wrapped(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        location: str = args[0].location  # type: ignore[attr-defined]
        with errors_of(location):
            found = method(*args, **kwargs)
        return _row_by_row(location, found) if isinstance(found, Iterator) else found  # type: ignore[return-value]

    return wrapped


def _row_by_row(location: str, found: Iterator[Any]) -> Iterator[Any]:
    with errors_of(location):
        yield from found
