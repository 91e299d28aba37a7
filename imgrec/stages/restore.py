"""restore: a store again from its backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from imgrec.contracts import Store
from imgrec.errors import UsageError
from imgrec.run import Run
from imgrec.stages import Stage, part


@dataclass(kw_only=True)
class Restore(Stage):
    """Rebuild the store from its backup: records, vectors and failures that it lacks are copied, no others."""

    positional: ClassVar[str | None] = None

    backup: Store | None = part("backup")
    store: Store = part("store")

    def execute(self, run: Run) -> None:
        """Copy, and print how many images came back."""
        if self.backup is None:
            raise UsageError("restore from what? choose a backup, such as backup=csv")
        with (
            self.backup as backup,
            backup.snapshot(),
            self.store.writing(),
            self.store.open(create=True) as store,
            run.timed("restore"),
        ):
            copied = store.copy_from(backup, only_lacking=True)
        run.counts.update(copied=copied)
        run.print(f"{self.store.location}: {copied:,} images restored from {self.backup.location}")
