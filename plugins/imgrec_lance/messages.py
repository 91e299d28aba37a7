"""Lance's errors in a line, without what should not be told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import imgrec


@contextlib.contextmanager
def errors_of(location: str) -> Iterator[None]:
    """Turn Lance's errors into an ImgrecError that names the store."""
    try:
        yield
    except imgrec.ImgrecError:
        raise
    except BaseException as error:
        if not is_of_lance(error) or (isinstance(error, ValueError) and ".rs:" not in str(error)):
            raise
        raise imgrec.ImgrecError(f"store {location}: {short(error)}") from error


def is_of_lance(error: BaseException) -> bool:
    """Whether Lance may have raised it, also as a panic of Rust, which is no Exception and no importable class."""
    return isinstance(error, OSError | RuntimeError | ValueError) or type(error).__name__ == "PanicException"


def short(error: BaseException) -> str:
    """A message in a line, without places in Lance's code; of what a server says only code and message.

    The rest of that may have the name of a key.
    """
    text, _, rest = str(error).strip().partition("<")
    told = re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", rest, re.DOTALL)
    text = " ".join([*text.split(), *(told.groups() if told else ())])
    return re.sub(r",? ?/\S+\.rs:\d+:\d+", "", text)[:500]


naming_the_store = imgrec.runs_within(lambda store: errors_of(store.location))
"""A decorator of a store's methods."""
