"""ingest: extracts folders of photographs into a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from imgrec import images
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery import similarity
from imgrec.ingestion.estimate import MANY, Estimate
from imgrec.ingestion.ingest import extractors_of, ingest, roots_of, what_alone_is_seen
from imgrec.ingestion.report import IngestReport
from imgrec.kinds import Engine, Extractor, Recorded, Space, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run, progress
from imgrec.search import files, tables


@dataclass(kw_only=True)
class Ingest(Stage):
    """Turn the photographs of a folder into vectors, and keep them in a store."""

    positional: ClassVar[str | None] = "source"
    takes_several: ClassVar[bool] = True

    source: Any = option(path=True, help="a folder, file, archive or address, or a list [a,b] of them")
    extractor: Extractor | Recorded = component("extractor")
    default_extractor: Extractor = component("extractor", is_fallback=True)
    store: Store = component("store")
    backup: Store | None = component("backup")
    engine: Engine | None = component("engine")
    exclude: Any = option(
        None, text=True, help="what is no photograph: a pattern as in .gitignore, or a list [a,b] of them"
    )
    batch_size: int = option(
        64, minimum=1, help="images that are extracted at once, and a transaction at the least"
    )
    retry_failed: bool = option(False, help="try files again that failed and have not changed since")
    bring_back: bool = option(False, help="take images again that `imgrec forget` has removed")
    prune: bool = option(False, help="forget the images below the source that are missing")
    force: bool = option(
        False, help="prune although more than half of the gallery is missing, or the source's drive may be away"
    )
    search_index: bool = option(
        True, help="make the search index of a large gallery at the end; false: the second search makes it"
    )
    estimate: bool = option(
        False, help="only say what it will take, from a probe of 64 files; nothing is written to the store"
    )

    def execute(self, run: Run) -> None:
        """Ingest, and print how many files were new, unchanged, moved, missing, failed; or only what it takes."""
        roots = roots_of(self.source, self.store)
        if run.gives("default_extractor"):
            similarity.check_default(self.store, self.extractor, self.default_extractor)
        chosen = similarity.extractors_to_ingest(self.store, self.extractor, self.default_extractor)
        extractors = extractors_of(chosen)
        for extractor in extractors:
            run.uses("extractor", extractor.name)
        spaces = [Space.of(extractor) for extractor in extractors]
        seen = what_alone_is_seen(self.store, extractors)
        report, estimates = IngestReport(), list[Estimate]()

        def before(found: Estimate) -> bool:
            estimates.append(found)
            if not self.estimate:
                run.note(str(found))
            return not self.estimate

        try:
            with run.timed("ingest"):
                ingest(
                    roots,
                    chosen,
                    self.store,
                    self.backup,
                    engine=self.engine,
                    exclude=self.exclude,
                    batch_size=self.batch_size,
                    retry_failed=self.retry_failed,
                    bring_back=self.bring_back,
                    prune=self.prune,
                    force=self.force,
                    report=report,
                    show_progress=True,
                    before=before,
                    before_from=0 if self.estimate else MANY + 1,
                    seed=self.seed,
                )
        except UsageError:  # the run's folder, with its results, will be removed
            if any(asdict(report).values()):
                run.print(f"{self.store.location}: {report}")
            raise
        except BaseException:
            self._print_report(run, report, spaces)
            raise
        if self.estimate:
            run.print(f"{self.store.location}: {estimates[0]}")
            run.write_json("results.json", {"store": self.store.location, **asdict(estimates[0])})
            return
        if seen:
            run.note(seen)
        below = set(roots)
        with self.store as store:
            held = [r.digest for r in store.records() if not r.missing and images.is_inside(r.path, below)]
            keeps = store.keeps
        run.reads(len(held), tables.fingerprint(set(held)), spaces)
        self._print_report(run, report, spaces, keeps)
        self._make_search_index(run, chosen)

    def _make_search_index(self, run: Run, chosen: Sequence[Extractor]) -> None:
        """Make that of each large space, or update it; those of projections are left to the second search."""
        if not self.search_index:
            return
        terms = [term for each in chosen for term in each.terms().values() if term.projection is None]
        try:
            with run.timed("search index"), self.store as store:
                for space in dict.fromkeys(Space.of(term.extractor) for term in terms):
                    files.prepare(files.whole(store, space), progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("all is ingested, and only the search index is left to be made") from None
        except ImgrecError as error:  # all that was asked for is done
            run.note(f"there is no search index: {error}")

    def _print_report(self, run: Run, report: IngestReport, spaces: list[Space], paths: str | None = None) -> None:
        if self.estimate:  # interrupted: nothing was done
            return
        run.print(f"{self.store.location}: {report}")
        run.counts.update(asdict(report))
        keys = [space.key for space in spaces]
        found = {"store": self.store.location, "paths": paths, "spaces": keys, **asdict(report)}
        run.write_json("results.json", found)

    @classmethod
    def reproducible(cls, results: Mapping[str, Any]) -> Mapping[str, Any]:
        """The results without counts that depend on what the store held before."""
        present = results["new"] + results["unchanged"] + results["moved"]
        return {"spaces": results["spaces"], "images": present, "failed": results["failed"]}
