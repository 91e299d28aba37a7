"""import: vectors of others, or exported ones, into a gallery."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.exchange.importing import Imported, import_vectors
from imgrec.gallery.recorded import changed_options
from imgrec.kinds import Extractor, Recorded, Space, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Import(Stage):
    """Take vectors of others, or exported ones, into a gallery: Parquet, or a NumPy array with a CSV file."""

    positional: ClassVar[str | None] = "file"

    file: str = option(
        path=True, help="a Parquet file, an array .npy with a CSV file beside it, or a folder of these"
    )
    vectors: str | None = option(
        None, text=True, help="the column or array of vectors; null: the only one, or all of an exported file"
    )
    paths: str = option("path", text=True, help="the column of the images' paths")
    root: str | None = option(None, path=True, help="where relative paths begin; null: where the file is")
    sample: int | None = option(
        50, minimum=1, help="with extractor=: so many files, chosen by seed, are extracted again; null: all"
    )
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")

    def execute(self, run: Run) -> None:
        """Import, print how many images were new, known, not here, and write `results.json`.

        Raises:
            ImgrecError: the vectors are not those of the extractor that was given.
        """
        extractor = self.extractor if isinstance(self.extractor, Extractor) else None
        if isinstance(self.extractor, Recorded) and self.extractor.changes:
            raise UsageError(
                "options of the extractor have no effect without extractor=, which proves the vectors"
            )
        if extractor is None and run.gives("sample"):
            raise UsageError("sample= has no effect without extractor=, by which files are extracted again")
        with run.timed("import"):
            done = import_vectors(
                self.file,
                self.store,
                extractor=extractor,
                vectors=self.vectors,
                paths=self.paths,
                root=self.root,
                sample=self.sample,
                seed=self.seed,
                show_progress=True,
            )
        counts = {name: value for name, value in asdict(done).items() if name not in ("spaces", "claims")}
        keys = [space.key for space in done.spaces]
        run.counts.update(counts)
        run.write_json("results.json", {"store": self.store.location, "spaces": keys, **counts})
        self._tell(run, done)

    def _tell(self, run: Run, done: Imported) -> None:
        told = {
            "new": done.new,
            "known": done.known,
            "kept as the gallery has them": done.kept,
            "not here": done.not_here,
            "unreadable": done.unreadable,
        }
        counts = ", ".join(f"{count:,} {what}" for what, count in told.items() if count or what == "new")
        run.print(f"{self.store.location}: {counts}, in {' and '.join(space.key for space in done.spaces)}")
        if done.compared:
            run.note(
                f"{done.compared} files were extracted again, and the vectors are what they claim: apart by "
                f"{done.apart:.1g} of their length at the most"
            )
        if done.differing:
            log.warning("%s images have another vector of the same content already, which is kept", done.differing)
        for claim in done.claims:
            run.note(f"they claim to be of {claim.key}, which {_words(claim)} proves")


def _words(space: Space) -> str:
    """The options that choose the extractor of a space."""
    words: list[Any] = [f"extractor={space.extractor}", *(f"extractor.{each}" for each in changed_options(space))]
    return " ".join(map(str, words))
