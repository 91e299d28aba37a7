"""Object storage, by obstore: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.

Credentials, regions and endpoints are those that the platform's own programs use, from environment variables,
files or the machine's role. They are asked for by obstore, or boto3 where it is installed, and kept nowhere.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import importlib.util
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import imgrec
from imgrec import ImageFile, UnreadableImageError, UsageError

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")

MAX_BYTES = 400_000_000
"""Larger objects are refused unread."""

LISTED = 1_000
"""Objects that are listed at a time."""

RETRIES = {"max_retries": 8}
"""A server that is busy or breaks off is asked again after 0.1, 0.2, 0.4, ... seconds, each somewhat at random."""

ANSWERED = re.compile(r"status code: (\d+[\w ]*)")
UNREACHED = "error sending request"
"""In errors that a server has sent, and in those on the way to it."""

ODD_KEY = "invalid path"
"""In errors of a listing with a key that obstore does not take, and with it no other one."""

BUCKET = re.compile(r"[\w.$-]+", re.ASCII)
"""Names of buckets and containers: a `?` or `#` in one would be none, and another name of the same bucket."""

AWAY_SECONDS = 30.0
SAID = 300
"""Letters of an error, in a message."""

TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)
MEANINGS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
"""Of a pattern's parts, as in `glob`, for regular expressions."""


@dataclass
class Remote(imgrec.Source):
    """Objects in buckets of S3, Google Cloud and Azure, and whatever else speaks S3's protocol."""

    requires: ClassVar[Mapping[str, str]] = {"obstore": "imgrec[remote]"}
    at_once: ClassVar[int] = 64

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether it begins as an address of object storage."""
        return path.partition("://")[0] in SCHEMES and "://" in path

    def roots(self, path: str) -> list[str]:
        """A bucket, prefix or object; or those that match a pattern with `*`, `**`, `?` or `[]`.

        Raises:
            UsageError: nothing matches, the bucket cannot be listed, or there is a password in its name.
        """
        address, key = _parts(path)
        if "@" in address:
            raise UsageError(
                "source has a user or password, which belong into the environment: AWS_ACCESS_KEY_ID, ..."
            )
        if problem := _problem(address):
            raise UsageError(f"source {path!r} {problem}")
        if not re.search(r"[*?[]", key) or self.state(path) is not None:
            return [path.rstrip("/")]
        pattern = re.compile("".join(map(_meaning, TOKEN.findall(key.rstrip("/")))) + "(?=/|$)", re.DOTALL)
        fixed = re.split(r"[*?[]", key)[0].rpartition("/")[0]
        try:
            found = {match[0]: None for told in _listed(address, fixed) if (match := pattern.match(told["path"]))}
        except UnreadableImageError as error:
            raise UsageError(f"source {path!r} {error}") from None
        if not found:
            raise UsageError(f"source {path!r} matches nothing")
        return [f"{address}/{root}" for root in found]

    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        """List what lies below each root, in the order of the storage."""
        known = imgrec.image_suffixes()
        for root in dict.fromkeys(roots):
            address, prefix = _parts(root)
            try:
                if prefix and (told := _head(address, prefix)):
                    yield _file(root, told)
                for told in _listed(address, prefix):
                    if os.path.splitext(told["path"])[1].lower() in known:
                        yield _file(f"{address}/{told['path']}", told)
            except UnreadableImageError as error:
                raise imgrec.ImgrecError(f"{root}: {error}") from None

    def state(self, path: str) -> ImageFile | None:
        """What the storage says of an object; None only if its bucket answers, and nothing is there."""
        address, key = _parts(path)
        try:
            if key and (told := _head(address, key)):
                return _file(path, told)
            is_folder = any(True for _ in _listed(address, key, 1))
        except UnreadableImageError as error:
            return ImageFile(path, 0, 0, problem=str(error))
        return ImageFile(path, 0, 0, problem=imgrec.NOT_REGULAR) if is_folder or not key else None

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        """An object's bytes, and its state as the same answer tells it."""
        return _read(path, {})

    def read_part(self, path: str, start: int, size: int) -> tuple[bytes, ImageFile]:
        """Some of an object's bytes."""
        return _read(path, {"range": (start, start + size)})


def _parts(path: str) -> tuple[str, str]:
    """The address of a bucket, and a key or prefix in it.

    >>> _parts("s3://photos/2024/a.jpg"), _parts("s3://photos/")
    (('s3://photos', '2024/a.jpg'), ('s3://photos', ''))
    """
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key.rstrip("/")


def _meaning(token: str) -> str:
    if token in MEANINGS:
        return MEANINGS[token]
    return fnmatch.translate(token)[:-2]  # a set as in `glob`, without the end of the text


def _read(path: str, options: GetOptions) -> tuple[bytes, ImageFile]:
    address, key = _parts(path)
    with _errors(address):
        found = _store(address).get(key, options=options)
        start, end = found.range
        if end - start > MAX_BYTES:
            raise UnreadableImageError(f"too large: {end - start:,} bytes")
        data = bytes(found.bytes())
    if len(data) != end - start:
        raise UnreadableImageError(imgrec.CHANGED)
    return data, _file(path, found.meta)


def _head(address: str, key: str) -> ObjectMeta | None:
    """What the storage says of an object; None if nothing is there, or not even a bucket."""
    with contextlib.suppress(_NothingThereError), _errors(address):
        return _store(address).head(key)
    return None


def _listed(address: str, prefix: str, at_once: int = LISTED) -> Iterator[ObjectMeta]:
    """The objects below a prefix.

    Raises:
        UnreadableImageError: the bucket cannot be listed, or there is none.
    """
    with _errors(address):
        for some in _store(address).list(prefix or None, chunk_size=at_once):
            yield from some


def _file(path: str, told: ObjectMeta) -> ImageFile:
    """The time is in whole seconds, as some storages tell more in a listing than beside an object."""
    size, seconds, tag = told["size"], int(told["last_modified"].timestamp()), told["e_tag"] or ""
    digest = hashlib.sha256(tag.removeprefix("W/").strip('"').encode()).hexdigest()[:16]
    return ImageFile(path, size, seconds * 1_000_000_000, f"{seconds}-{size}-{digest}")


# --- obstore ----------------------------------------------------------------------------------------------------


_alone = threading.Lock()
"""Who imports obstore or makes a store does so alone: a second thread would get modules that are half made."""


def _store(address: str) -> ObjectStore:
    if problem := _problem(address):
        raise ValueError(problem)
    with _alone:
        return _made(address)


def _problem(address: str) -> str | None:
    bucket = address.partition("://")[2]
    if "@" in bucket:
        return "has a user or password, which belong into the environment"
    if not bucket:
        return "names no bucket"
    return None if BUCKET.fullmatch(bucket) else f"names no bucket: {bucket!r} cannot be the name of one"


@functools.cache
def _made(address: str) -> ObjectStore:
    from obstore.store import from_url

    options: dict[str, Any] = {"retry_config": RETRIES}  # other ones would make it ignore the environment's
    if (provider := _profile()) and address.startswith("s3://"):
        options["credential_provider"] = provider
    return from_url(address, **options)


@functools.cache
def _profile() -> Any:
    """The credentials of `~/.aws`, which boto3 reads and obstore does not; None if there are none, or others."""
    is_said = {"AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"} & os.environ.keys()
    if is_said or importlib.util.find_spec("boto3") is None:
        return None
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except Exception:  # of botocore's many, for none and for broken ones: obstore then says what it lacks
        return None


class _NothingThereError(UnreadableImageError):
    pass


_away: dict[str, tuple[float, str]] = {}
"""Until when a bucket is not asked again, and why: a network that is gone is waited for once, not by each file."""


@contextlib.contextmanager
def _errors(address: str) -> Iterator[None]:
    """Errors of obstore as reasons of one line, without what may be secret in an address."""
    with _alone:
        from obstore.exceptions import BaseError

    until, why = _away.get(address, (0.0, ""))
    if time.monotonic() < until:
        raise UnreadableImageError(f"{imgrec.NOT_OPENED}: {why}")
    try:
        yield
    except FileNotFoundError as error:
        raise _NothingThereError(f"{imgrec.NOT_OPENED}: {_said(error, address)}") from None
    except (BaseError, OSError, ValueError) as error:
        why = _said(error, address)
        if UNREACHED in str(error):
            _away[address] = (time.monotonic() + AWAY_SECONDS, why)
        raise UnreadableImageError(f"{imgrec.NOT_OPENED}: {why}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, which has no other name, and is no Exception
            raise
        why = f"the endpoint or credentials of the environment are none: {_said(error, address)}"
        raise UnreadableImageError(f"{imgrec.NOT_OPENED}: {why}") from None


def _said(error: BaseException, address: str) -> str:
    """What an error says, in which names may be of anybody's choice."""
    address = re.sub(r"(?<=//).*@", "...@", address)
    told = str(error).partition("\n")[0]
    if answered := ANSWERED.search(told):
        return f"{address} answers {answered[1]}"
    told = re.sub(r"^Generic \w+ error: ", "", told.rpartition(" - ")[2])[:SAID]
    told = "".join(letter if letter.isprintable() else "?" for letter in told)
    hint = "; rename it, or name the folders beside it as the source" if ODD_KEY in told else ""
    return f"{address}: {told}{hint}"


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Source]]:
    """This plugin's components."""
    return [Remote]
