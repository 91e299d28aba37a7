"""restore: rebuilds a store from its backup."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import ClassVar

from imgrec.errors import ImgrecError, NoStoreError, UsageError
from imgrec.kinds import Stage, Store
from imgrec.options import component
from imgrec.run import Run

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Restore(Stage):
    """Rebuild the store from its backup: copy the records, vectors and failures that the store lacks."""

    positional: ClassVar[str | None] = None

    backup: Store | None = component("backup")
    store: Store = component("store")

    def execute(self, run: Run) -> None:
        """Copy, and print how many images were restored.

        Raises:
            ImgrecError: the backup is empty.
        """
        if self.backup is None:
            raise UsageError("restore from what? choose a backup, such as backup=csv")
        with contextlib.ExitStack() as stack:
            try:
                backup = stack.enter_context(self.backup)
            except NoStoreError:
                raise UsageError(
                    f"there is no backup at {self.backup.location}: backup.path= says where else it is, and "
                    f"`imgrec ingest FOLDER backup={self.backup.name}` keeps one from then on"
                ) from None
            stack.enter_context(backup.snapshot())
            if next(backup.records(), None) is None:  # before a store is created
                raise ImgrecError(
                    f"{backup.location} holds no images: it is empty or damaged, and cannot be restored"
                )
            with self.store.writing(), self.store.open(create=True) as store, run.timed("restore"):
                copied = store.copy_from(backup, only_lacking=True)
                held = {digest for space in store.spaces() for digest in store.digests(space)}
                bare = sum(record.digest not in held for record in store.records())
        if bare:
            log.warning(
                "%s images have no vector in the backup either: the next ingest extracts them", f"{bare:,}"
            )
        run.counts.update(copied=copied)
        run.print(f"{self.store.location}: {copied:,} images restored from {self.backup.location}")
