"""forget: removes images whose files stay, or a space, from a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.gallery.forgetting import forget_images, forget_similarity
from imgrec.kinds import Stage, Store
from imgrec.options import component, option
from imgrec.run import Run


@dataclass(kw_only=True)
class Forget(Stage):
    """Forget images whose files stay, or a space with its vectors. Files are never touched."""

    positional: ClassVar[str | None] = "images"
    takes_several: ClassVar[bool] = True

    images: Any = option(None, path=True, help="a pattern of paths, */hat/*, a folder or a file, or a list [a,b]")
    space: str | None = option(None, help="a space or fusion to remove: a key or its beginning")
    force: bool = option(False, help="also more than half of the gallery")
    store: Store = component("store")

    def execute(self, run: Run) -> None:
        """Forget, print how much, and write `results.json` with all paths and spaces."""
        if (self.images is None) == (self.space is None):
            raise UsageError("forget what? a pattern of paths, such as '*/hat/*', or space=")
        if self.space is not None:
            key, spaces = forget_similarity(self.store, self.space)
            run.print(f"{self.store.location}: {key} is forgotten, with the vectors of {len(spaces)} spaces")
            run.write_json("results.json", {"space": key, "spaces": [space.key for space in spaces], "images": []})
            return
        patterns = self.images if isinstance(self.images, list) else [self.images]
        paths = forget_images(self.store, patterns, force=self.force)
        run.counts.update(images=len(paths))
        run.write_json("results.json", {"space": None, "spaces": [], "images": paths})
        said = f"{len(paths):,} images are forgotten; their files stay"
        if len(paths) == 1:
            said = "1 image is forgotten; its file stays"
        run.print(f"{self.store.location}: {said}. `imgrec ingest FOLDER bring_back=true` takes them again")
