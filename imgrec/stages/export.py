"""export: vectors and records as files that other programs read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec.exchange.export import FORMS, export_vectors
from imgrec.gallery.narrowing import Narrowing
from imgrec.kinds import Stage, Store
from imgrec.options import component, option
from imgrec.run import Run

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Export(Narrowing, Stage):
    """Write vectors and records for other programs: as Parquet, as NumPy and CSV, or for DuckDB."""

    positional: ClassVar[str | None] = "to"

    to: str | None = option(
        None,
        path=True,
        is_local=True,
        is_output=True,
        help="the file or folder to write; null: gallery in the run's folder",
    )
    form: str = option(
        "parquet",
        choices=FORMS,
        help="a Parquet file, a folder of arrays and CSV, or one with a script for DuckDB",
    )
    space: str | None = option(None, help="which space or fusion, where there are several: a key or its beginning")
    force: bool = option(False, help="replace an earlier export")
    store: Store = component("store")

    def execute(self, run: Run) -> None:
        """Write the file or folder, print its name, and write `results.json`."""
        to = self.to or str(run.folder / f"gallery{FORMS[self.form].suffix}")
        with run.timed("export"):
            done = export_vectors(
                self.store,
                to,
                self.form,
                space=self.space,
                where=self.where,
                force=self.force,
                show_progress=True,
            )
        run.reads(done.images, done.fingerprint, *done.similarity.sources())
        run.counts.update(images=done.images, without_vector=done.without_vector, missing=done.missing)
        spaces = [{"key": key, "dim": dim} for key, dim in done.dims.items()]
        run.write_json(
            "results.json",
            {
                "form": self.form,
                "space": done.similarity.stored_key,
                "spaces": spaces,
                **self.about,
                "images": done.images,
                "digest": done.digest,
                "without_vector": done.without_vector,
                "missing": done.missing,
            },
        )
        if done.without_vector:
            log.warning(
                "%s images have no vector there, and are left out: ingest again", f"{done.without_vector:,}"
            )
        run.print(to)
        told = " and ".join(f"{each['dim']:,} values of {each['key']}" for each in spaces)
        gone = f"; {done.missing:,} more are missing" if done.missing else ""
        run.note(f"{done.images:,} images, with {told}{gone}")

    @classmethod
    def reproducible(cls, results: Mapping[str, Any]) -> Mapping[str, Any]:
        """The results without counts of what was left out, which a gallery made anew does not have."""
        return {name: value for name, value in results.items() if name not in ("without_vector", "missing")}
