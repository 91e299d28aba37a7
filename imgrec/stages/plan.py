"""plan: what a collection of any size will take, by each way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec import planning, registry
from imgrec.errors import UsageError
from imgrec.ingestion.estimate import duration, size
from imgrec.kinds import Component, Engine, Extractor, Index, Stage, Store
from imgrec.options import component, option
from imgrec.planning import Limits, Measured, Way
from imgrec.planning.measuring import steps
from imgrec.run import Run, progress, table
from imgrec.run.listing import FORMATS, Column, Listing


@dataclass(kw_only=True)
class Plan(Stage):
    """Say what any number of images will take, by each way, from what this machine takes for a few."""

    positional: ClassVar[str | None] = "images"
    keeps_record: ClassVar[bool] = False

    images: int = option(minimum=1, help="how many")
    source: Any = option(None, path=True, help="photographs like them to measure with; null: they are made up")
    extractor: Extractor = component("extractor")
    engine: Engine = component("engine")
    stores: list[str] = option([], help="that are compared; the first one holds what is searched")
    indexes: list[str] = option([], help="that are compared with exact search")
    workers: int | None = option(
        None, minimum=2, help="machines that extract together; null: as many as keep within ingest_hours"
    )
    ingest_hours: float = option(24.0, minimum=0.01, help="an ingest that takes longer wants another way")
    query_ms: float = option(100.0, minimum=0.01, help="and so does a search")
    hour: float | None = option(None, minimum=0, help="the price of a core for an hour, which adds money")
    vectors: int = option(100_000, minimum=1000, help="in the gallery that is searched to measure it")
    batch_size: int = option(64, minimum=1, help="images that are extracted at once")
    format: str = option("table", choices=FORMATS[:-2], help="of the result on stdout")

    def execute(self, run: Run) -> None:
        """Measure, print a row for each way, and write `results.json`."""
        stores, indexes = self._usable(run, Store, self.stores), self._usable(run, Index, self.indexes)
        if not stores:
            raise UsageError("stores= is empty: name one at least, such as stores=[sqlite]")
        with progress("measure", steps(self.extractor, stores)) as advance:
            measured = planning.measure(
                self.extractor,
                stores,
                indexes,
                self.engine,
                None if self.source is None else [self.source] if isinstance(self.source, str) else self.source,
                vectors=self.vectors,
                batch_size=self.batch_size,
                seed=self.seed,
                advance=advance,
            )
        limits = Limits(self.ingest_hours, self.query_ms, self.workers, self.hour)
        found = planning.ways(measured, self.images, limits)
        result = {
            "images": self.images,
            "measured": dataclasses.asdict(measured),
            "ways": [dataclasses.asdict(way) for way in found],
        }
        run.write_json("results.json", result)
        run.note(_told(measured))
        run.show(_listing(found, result, has_money=self.hour is not None), self.format)

    @staticmethod
    def _usable(run: Run, kind: type[Component], names: Sequence[str]) -> list[Any]:
        """Those whose libraries are installed; a line tells of each other one."""
        found = []
        for name in names:
            plugin = registry.available(kind.kind).get(name)
            if plugin and (missing := plugin.cls.missing_libraries()):
                run.note(
                    f"{kind.kind}={name} is left out, since it lacks a library: {'; '.join(missing.values())}"
                )
            else:
                found.append(registry.build(kind.kind, name))
        return found


def _told(measured: Measured) -> str:
    made_up = " made-up" if measured.are_made_up else ""
    gallery = measured.searches[0].large.images
    return (
        f"measured in {measured.seconds:,.0f} s on {measured.cores} cores: {measured.tried}{made_up} photographs "
        f"of {size(measured.file_bytes)}, and searches of {gallery:,} vectors of {measured.dim} values, made up; "
        "the rest is extrapolated"
    )


def _listing(ways: Sequence[Way], result: dict[str, Any], *, has_money: bool) -> Listing:
    def shown(write: Any) -> Any:
        return lambda value: "" if value is None else write(value)

    columns = [
        Column("task"),
        Column("way"),
        Column("time", shown(duration), is_number=True),
        Column("core hours", shown(lambda hours: f"{hours:,.1f}"), is_number=True),
        *([Column("money", shown(lambda money: f"{money:,.2f}"), is_number=True)] if has_money else []),
        Column("disk", shown(size), is_number=True),
        Column("memory", shown(size), is_number=True),
        Column("a search", shown(lambda seconds: f"{1000 * seconds:,.1f} ms"), is_number=True),
        Column("sensible up to", shown(rounded), is_number=True),
        Column("then"),
    ]
    rows = [
        {
            "task": way.task,
            "way": way.way,
            "time": way.seconds,
            "core hours": way.core_hours,
            "money": way.money,
            "disk": way.disk_bytes,
            "memory": way.memory_bytes,
            "a search": way.query_seconds,
            "sensible up to": way.until,
            "then": way.then,
        }
        for way in ways
    ]
    cells = [[column.shown(row[column.name]) for column in columns] for row in rows]
    text = table(cells, header=[column.name for column in columns])
    return Listing(columns, rows, data=result, table=text)


def rounded(images: int) -> str:
    """A number of images to two digits: it is extrapolated.

    >>> rounded(23_456_789), rounded(0)
    ('23,000,000', '0')
    """
    return f"{int(float(f'{images:.2g}')):,}"
