"""A stage whose module imports what is heavy."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

import imgrec


@dataclass(kw_only=True)
class HeavyStage(imgrec.Stage):
    """Count the images of a gallery."""

    store: imgrec.Store = imgrec.component("store")

    def execute(self, run: imgrec.Run) -> None:
        with self.store as store:
            run.print(str(len(pd.DataFrame(record.path for record in store.records()))))
