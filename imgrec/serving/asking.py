"""Queries from addresses: pictures of the gallery by their digests and uploads, asked as the command line asks."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from imgrec import images
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery.answering import Answering
from imgrec.gallery.asking import Combining
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.pictures import Pictures
from imgrec.gallery.query import Item, Known, Query, Resolved, Text
from imgrec.gallery.resolving import Beside, known_item, resolved
from imgrec.gallery.variants import side_of_crops
from imgrec.kinds import Store
from imgrec.kinds.metric import METRIC_HELP
from imgrec.kinds.metric import names as metric_names
from imgrec.options import Options, option
from imgrec.serving.galleries import Galleries, Moment, Which
from imgrec.serving.uploads import Upload, Uploads, check_memory

MOST = 1_000
"""The largest k, and how many pictures a query may have."""


class UnknownError(ImgrecError):
    """There is nothing of this name, or not any more."""


@dataclass(kw_only=True)
class Comparing(Options):
    """What images are compared by."""

    space: str | None = option(
        None, text=True, help="which space or fusion: a key or its beginning; else the default"
    )
    metric: str | None = option(None, choices=metric_names, help=METRIC_HELP)
    weights: dict[str, float] = option(
        {}, minimum=0, help="of a fusion's parts, NAME:NUMBER, where they are others"
    )

    @property
    def which(self) -> Which:
        """The same, to look a gallery up by."""
        return Which(self.space, self.metric, tuple(sorted(self.weights.items())))


@dataclass(kw_only=True)
class Asked(Comparing, Combining, Answering):
    """What is asked for, and how."""

    q: list[str] = option([], help="a picture: d:DIGEST of the gallery's, u:DIGEST of an upload; or several")
    unlike: list[str] = option([], help="pictures to keep away from, the same way")
    map: str | None = option(
        None, text=True, help="also give the matches' rows on this map, and the query's place"
    )

    @classmethod
    def title(cls) -> str:
        """As the stage is called."""
        return "recommend"

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(self.k, len(self.q) + len(self.unlike)) > MOST:
            raise UsageError(f"k, and the number of pictures, are at most {MOST:,}")


@dataclass
class Questions:
    """Makes queries, and answers them.

    Args:
        store: open.
        galleries: of the store.
        uploads: that queries may name.
    """

    store: Store
    galleries: Galleries
    uploads: Uploads
    _extracting: threading.Lock = field(default_factory=threading.Lock)
    """Models are used by one query at a time, and pictures are decoded one at a time."""

    def answer(self, asked: Asked) -> tuple[Moment, dict[str, Any]]:
        """The results of a query, as `imgrec recommend` has them, with the digests of the matches.

        Raises:
            UsageError: an option cannot be understood, or a picture cannot be read.
            UnknownError: a picture is not in the gallery, or no upload that is still kept.
        """
        if not asked.q and asked.text is None:
            raise UsageError(
                "q= is missing: a picture, d:DIGEST of the gallery's or u:DIGEST of an upload; or text=, words"
            )
        moment = self.galleries.now
        gallery = moment.gallery(asked.which)
        query, in_gallery = self._asked(asked, moment.base(gallery), gallery)
        with self.store.snapshot():
            (matches,) = asked.search(gallery, [in_gallery])
        found = asked.results(gallery, query, matches)
        return moment, {**found, "digests": [match.digest for match in matches]}

    def resolved(self, asked: Asked, gallery: Gallery, moment: Moment) -> Resolved:
        """A query in a gallery, other than the one that it is asked of perhaps.

        Raises:
            UsageError, UnknownError: as by `answer`.
        """
        return self._asked(asked, moment.base(gallery), gallery)[1]

    def digests_of(self, paths: Iterable[str]) -> dict[str, str]:
        """The digest of each file that the store has."""
        return {record.path: record.digest for record in self.store.records(paths=list(paths))}

    def paths_of(self, digest: str) -> list[str]:
        """The files of a content that are not missing, in the order of paths.

        Raises:
            UnknownError: there is none.
        """
        paths = [record.path for record in self.store.records(digests=[digest]) if not record.missing]
        if not paths:
            raise UnknownError(f"the gallery has no picture {digest!r:.80}")
        return sorted(paths)

    def data_of(self, digest: str) -> bytes:
        """The bytes of a picture of the gallery or an upload.

        Raises:
            UnknownError: there is none, or the file is gone.
            UnreadableImageError: it cannot be read.
        """
        if (upload := self.uploads.get(digest)) is not None:
            return upload.data
        for path in filter(images.is_file, self.paths_of(digest)):
            data, found = images.read(path)
            if found == digest:
                return data
        raise UnknownError("its file is gone, or has changed since it was ingested")

    # --- from names to vectors ------------------------------------------------------------------------------

    def _asked(self, asked: Asked, base: Gallery, gallery: Gallery) -> tuple[Query, Resolved]:
        items = [*(self._item(each, base, asked.variants) for each in asked.q), *self._words(asked.text, base)]
        unlike = [*(self._item(each, base, None) for each in asked.unlike), *self._words(asked.unlike_text, base)]
        query = Query(
            tuple(name for name, _ in items),
            asked.combine,
            asked.include_self,
            tuple(name for name, _ in unlike),
            asked.unlike_weight,
            asked.variants,
        )
        away = [known for _, some in unlike for known in some]
        return query, resolved(query, [some for _, some in items], Beside(away, None), gallery.similarity)

    def _words(self, text: str | None, base: Gallery) -> list[tuple[Item, list[Known]]]:
        if text is None:
            return []
        with self._extracting:
            pictures = Pictures(self.store, base.similarity.terms)
            return [(Text(text), known_item(Text(text), self.store, pictures, "text"))]

    def _item(self, name: str, base: Gallery, variants: str | None) -> tuple[Item, list[Known]]:
        """The path of a picture, or what an upload is called, with its vectors."""
        kind, _, digest = name.partition(":")
        if kind == "u":
            if (upload := self.uploads.get(digest)) is None:
                raise UnknownError(f"the upload {digest:.12} is not kept any more: upload it again")
            return upload.name, self._of_upload(upload, base, variants)
        if kind != "d":
            raise UsageError(
                f"q is d:DIGEST of a picture of the gallery or u:DIGEST of an upload, not {name!r:.80}"
            )
        path = self.paths_of(digest)[0]
        pictures = Pictures(self.store, base.similarity.terms, variants)
        if variants is None:
            return path, pictures.of_content(path, digest)
        with self._extracting:
            return path, pictures.of_content(path, digest)

    def _of_upload(self, upload: Upload, base: Gallery, variants: str | None) -> list[Known]:
        key = base.similarity.stored_key, variants
        with self._extracting:
            if key not in upload.known:
                spaces = [term.space for term in base.similarity.terms]
                if variants or not all(self.store.digests(space, [upload.digest]) for space in spaces):
                    sides = {term.ready_extractor().side for term in base.similarity.terms}
                    check_memory(
                        upload.data, sides | {side_of_crops(each) for each in sides} if variants else sides
                    )
                pictures = Pictures(self.store, base.similarity.terms, variants)
                upload.known[key] = pictures.of_content(upload.name, upload.digest, upload.data)
            return upload.known[key]
