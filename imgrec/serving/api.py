"""The operations of the API: what each takes, what it gives. The page uses these and no others."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from imgrec import images
from imgrec.drawing.map_file import MapFile, packed
from imgrec.errors import UsageError
from imgrec.gallery import holdings
from imgrec.gallery.copies import Finding
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.texts import takes_text
from imgrec.kinds import Index, Store
from imgrec.kinds.metric import names as metric_names
from imgrec.options import Options, option
from imgrec.serving import maps as map_names
from imgrec.serving.asking import Asked, Comparing, Questions, UnknownError
from imgrec.serving.bodies import Bodies
from imgrec.serving.galleries import Galleries, Moment, Which
from imgrec.serving.guard import YEAR
from imgrec.serving.maps import Maps
from imgrec.serving.runs import Runs
from imgrec.serving.thumbnails import SHOWN, SIDES, Thumbnails, as_webp
from imgrec.serving.uploads import Uploads

JSON, BINARY, CSV = "application/json", "application/octet-stream", "text/csv"
WEBP, PNG = "image/webp", "image/png"

MOST_ROWS = 10_000
"""Rows that an address may name."""


class Served:
    """What is served: a store with its galleries, maps, thumbnails and uploads.

    Args:
        store: open; it stays so.
        bodies: how bodies are read.
        runs: the folder of runs that are shown.
        index: finds candidates approximately; None: every search is exact.

    Raises:
        UsageError: it is empty.
    """

    def __init__(
        self, store: Store, bodies: Bodies | None = None, runs: Path | None = None, index: Index | None = None
    ) -> None:
        self.store, self.bodies, self.runs = store, bodies or Bodies(), Runs(runs or Path("outputs"))
        self.galleries = Galleries(store, index)
        self.maps = Maps(self.galleries)
        self.questions = Questions(store, self.galleries, Uploads())
        cache = store.cache_folder
        self.thumbnails = Thumbnails(None if cache is None else cache / "thumbnails")
        self._described: dict[str, Any] = {"version": None}
        self._groups: dict[tuple[str, str], dict[str, Any]] = {}
        self._grouping = threading.Lock()
        self.galleries.worker.submit(self.described)

    def described(self) -> dict[str, Any]:
        """What the store holds, and its version; looked up once a version."""
        version = self.galleries.now.version
        if self._described["version"] != version:
            self._described = {"version": version, **holdings.describe(self.store)}
        return self._described

    def groups(self, asked: Copies) -> dict[str, Any]:
        """The duplicates that are asked for; of a large gallery this takes long, so the latest answer is kept.

        Raises:
            UsageError: an option cannot be understood.
        """
        moment = self.galleries.now
        key = moment.version, repr(asked)
        with self._grouping:
            if key not in self._groups:
                found, result = asked.found(moment.gallery(asked.which))
                paths = [image.record.path for group in found.groups for image in group.images]
                self._groups = {key: {**result, "digests": self.questions.digests_of(paths)}}
            return self._groups[key]


@dataclass(frozen=True)
class Operation:
    """One operation, as it is routed and described."""

    path: str
    answer: Callable[..., Any]
    """Given what is served, its options if it has any, its body if it takes one, and what `path` names, each as
    text; it returns JSON data or a response. The first line of its docstring describes it."""

    options: type[Options] | None = None
    method: str = "GET"
    takes: str = ""
    """The type of its body."""

    gives: str = JSON
    is_slow: bool = False
    """Whether it may take long, so that others do not wait for it."""


# --- the gallery and its maps -----------------------------------------------------------------------------------


def gallery(served: Served) -> Any:
    """What the gallery holds: spaces, which of them take words, fusions, counts, maps; and its version."""
    held = served.described()
    keys = [each["key"] for each in (*held["fusions"], *held["spaces"])]
    return {
        **held,
        "metrics": [*metric_names()],
        "in_words": [space.key for space in served.store.spaces() if takes_text(space)],
        "maps": [f"{key}{map_names.BETWEEN}{reducer}" for key in keys for reducer in map_names.reducers()],
        "most_bytes": served.bodies.most,
    }


def map_about(served: Served, map: str) -> Any:  # noqa: A002 - what the path names
    """What a map is, and whether it is there: `state` is absent, making, made or failed."""
    return served.maps.about(map)


def map_make(served: Served, map: str) -> Any:  # noqa: A002
    """Begin to make a map that is not there or not up to date; its state says how far that is."""
    served.maps.make(map)
    return JSONResponse(served.maps.about(map), 202)


@dataclass(kw_only=True)
class Ordered(Options):
    """In which order points are given."""

    order: str | None = option(None, text=True, help="the map whose rows are meant; null: its own")


def positions(served: Served, asked: Ordered, map: str) -> Any:  # noqa: A002
    """The points of a map: for each block all low bytes of x, all high ones, then y, each number of 16 bits."""
    found = _opened(served, map)
    if asked.order is None or asked.order == map:
        return _gzipped(found.packed_positions)
    try:
        return _gzipped(packed(found.positions_for(_opened(served, asked.order))))
    except ValueError as error:
        raise UsageError(str(error)) from None


def labels(served: Served, map: str) -> Any:  # noqa: A002
    """The number of each point's label, in blocks as positions are; the names are in what the map is."""
    return _gzipped(_opened(served, map).packed_labels)


@dataclass(kw_only=True)
class Rows(Options):
    """Some points of a map."""

    rows: str = option("", text=True, help="numbers of points, 0,17,4")

    @property
    def numbers(self) -> list[int]:
        """The rows as numbers."""
        texts = self.rows.split(",") if self.rows else []
        if len(texts) > MOST_ROWS or not all(
            text.isascii() and text.isdigit() and len(text) < 10 for text in texts
        ):
            raise UsageError(f"rows are numbers with commas between, {MOST_ROWS:,} at most")
        return [int(text) for text in texts]


def items(served: Served, asked: Rows, map: str) -> Any:  # noqa: A002
    """The pictures that some points of a map are: row, digest, path, label."""
    return {"items": [_item(each) for each in _opened(served, map).items(asked.numbers)]}


def _item(item: Any) -> dict[str, Any]:
    return {"row": item.row, "digest": item.digest, "path": item.path, "label": item.label}


def selections(served: Served, body: bytes) -> Any:
    """Count a selection by label, or with `"format": "csv"` list it: `{"map": ..., "rows": [...]}`."""
    try:
        asked = json.loads(body)
        name, rows, form = asked["map"], asked["rows"], asked.get("format", "json")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError('a selection is {"map": "...", "rows": [0, 17, 4], "format": "json" or "csv"}') from None
    found = _opened(served, str(name))
    count = found.about["count"]
    if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < count for row in rows):
        raise UsageError(f"rows are numbers from 0 to {count - 1:,}")
    rows = list(dict.fromkeys(rows))
    if form == "csv":
        headers = {"Content-Disposition": 'attachment; filename="selection.csv"'}
        return StreamingResponse(_csv(found, rows), media_type=CSV, headers=headers)
    names = [name for name, _ in found.about["labels"]]
    counts = Counter(found.labels[rows].tolist()) if rows else Counter[int]()
    return {"count": len(rows), "labels": {names[label]: number for label, number in counts.most_common()}}


def _csv(found: MapFile, rows: list[int]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "path", "label", "digest"])
    for start in range(0, len(rows), MOST_ROWS):
        for item in found.items(rows[start : start + MOST_ROWS]):
            writer.writerow([item.row, item.path, item.label, item.digest])
        yield text.getvalue().encode("utf-8", "surrogateescape")
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _opened(served: Served, name: str) -> MapFile:
    try:
        return served.maps.opened(name)
    except KeyError:
        raise UnknownError(f"the map {name:.100} is not made: POST to it makes it") from None


def _gzipped(data: bytes) -> Response:
    return Response(data, media_type=BINARY, headers={"Content-Encoding": "gzip"})


# --- pictures ---------------------------------------------------------------------------------------------------


def thumbnail(served: Served, digest: str, file: str) -> Any:
    """A picture of the gallery, or an upload, fitted to 48, 96 or 256 pixels."""
    side = {f"{side}.webp": side for side in SIDES}.get(file)
    if side is None:
        raise UnknownError(f"thumbnails are {', '.join(f'{side}.webp' for side in SIDES)}")
    if (upload := served.questions.uploads.get(digest)) is not None:  # which is written nowhere
        return _kept(as_webp(upload.data, side))
    served.questions.paths_of(_digest(digest))  # what is not in the gallery any more is not shown
    return _kept(served.thumbnails.get(digest, side, lambda: served.questions.data_of(digest)))


def image(served: Served, digest: str) -> Any:
    """A picture of the gallery, or an upload, fitted to 2,048 pixels, without what its file says beside it."""
    return _kept(as_webp(served.questions.data_of(_digest(digest)), SHOWN))


def _kept(data: bytes) -> Response:
    """A picture that never changes, since its content names it."""
    return Response(data, media_type=WEBP, headers={"Cache-Control": f"private, max-age={YEAR}, immutable"})


def _digest(text: str) -> str:
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise UnknownError("a picture is named by its digest, SHA-256 in hexadecimal")
    return text


# --- queries ----------------------------------------------------------------------------------------------------


def recommend(served: Served, asked: Asked) -> Any:
    """The nearest pictures as `imgrec recommend format=json` has them, with digests, and with rows on a map."""
    moment, result = served.questions.answer(asked)
    if asked.map is not None:
        found, base = _opened(served, asked.map), _gallery_of(moment, asked.map)
        rows = found.rows_of(match["path"] for match in result["matches"])
        result["rows"] = [rows.get(match["path"]) for match in result["matches"]]
        result["place"] = found.place(base, served.questions.resolved(asked, base, moment)).to_json()
    return JSONResponse(result, headers={"Imgrec-Version": moment.version})


@dataclass(kw_only=True)
class Placing(Options):
    """Where an upload is wanted."""

    maps: list[str] = option([], text=True, help="the maps on which it is placed, which are made")


def queries(served: Served, asked: Placing, body: bytes) -> Any:
    """Take a picture, not written anywhere: `q` names it in other operations, `places` are where it is on maps."""
    try:
        upload = served.questions.uploads.add(body)
    except images.UnreadableImageError as error:
        return JSONResponse({"error": f"this picture cannot be read: {error}"}, 415)
    moment = served.galleries.now
    places = {}
    q = f"u:{upload.digest}"
    for name in asked.maps:
        found, base = _opened(served, name), _gallery_of(moment, name)
        places[name] = found.place(base, served.questions.resolved(Asked(q=[q]), base, moment)).to_json()
    return JSONResponse({"q": q, "places": places}, 201)


def _gallery_of(moment: Moment, map: str) -> Gallery:  # noqa: A002
    """The gallery that a map is of."""
    return moment.gallery(Which(map_names.parts(map)[0]))


# --- duplicates, runs -------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Copies(Comparing, Finding):
    """Which images are duplicates."""


def duplicates(served: Served, asked: Copies) -> Any:
    """The groups of near-duplicates, as `imgrec duplicates format=json` has them, with digests by path."""
    return served.groups(asked)


def runs(served: Served) -> Any:
    """The runs and sweeps that are there, with their figures, the names of their pictures, and their commands."""
    return served.runs.listed()


@dataclass(kw_only=True)
class Compared(Options):
    """Which runs are compared."""

    run: list[str] = option([], help="the name of a run; two or more")


def runs_compare(served: Served, asked: Compared) -> Any:
    """How runs differ: in configuration, data and versions, and in all figures."""
    return served.runs.compared(asked.run)


@dataclass(kw_only=True)
class Shown(Options):
    """Which picture is shown."""

    run: str = option(text=True, help="the name of a run or sweep")
    file: str = option(text=True, help="the name of one of its pictures")


def runs_picture(served: Served, asked: Shown) -> Any:
    """A picture of a run or sweep."""
    return FileResponse(served.runs.picture(asked.run, asked.file), media_type=PNG)


OPERATIONS = (
    Operation("/api/gallery", gallery),
    Operation("/api/maps/{map}", map_about),
    Operation("/api/maps/{map}", map_make, method="POST"),
    Operation("/api/maps/{map}/positions", positions, Ordered, gives=BINARY),
    Operation("/api/maps/{map}/labels", labels, gives=BINARY),
    Operation("/api/maps/{map}/items", items, Rows),
    Operation("/api/thumbs/{digest}/{file}", thumbnail, gives=WEBP),
    Operation("/api/images/{digest}", image, gives=WEBP),
    Operation("/api/recommend", recommend, Asked),
    Operation("/api/queries", queries, Placing, "POST", takes="image/*", is_slow=True),
    Operation("/api/selections", selections, method="POST", takes=JSON),
    Operation("/api/duplicates", duplicates, Copies, is_slow=True),
    Operation("/api/runs", runs),
    Operation("/api/runs/compare", runs_compare, Compared),
    Operation("/api/runs/picture", runs_picture, Shown, gives=PNG),
)
"""All of them; `openapi.json` describes them."""
