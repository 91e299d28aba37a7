"""default: what the images of a gallery are compared by unless something else is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from imgrec.gallery import recorded
from imgrec.kinds import Batch, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run


@dataclass(kw_only=True)
class Default(Stage):
    """Show or set the space or fusion by which images are compared unless another is named."""

    positional: ClassVar[str | None] = "space"
    keeps_record: ClassVar[bool] = False

    space: str | None = option(None, help="a key or its beginning, or a preset; without it, the default is shown")
    store: Store = component("store")

    def execute(self, run: Run) -> None:
        """Set the default, if one is given, and print it."""
        with self.store as store:
            if self.space is not None:
                with store.writing():
                    store.write(Batch(metadata={recorded.DEFAULT: recorded.named(store, self.space)}))
            key = recorded.default_key(store)
            text = recorded.listed(store, [key])
        run.write_json("results.json", {"store": self.store.location, "default": key})
        run.print(f"{self.store.location}: compared by {text}")
