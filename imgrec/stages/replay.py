"""replay: repeats a run from its record and compares the results."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from typing import ClassVar

from imgrec.errors import ImgrecError, UsageError
from imgrec.kinds import Stage
from imgrec.options import option
from imgrec.reproduction import GROUPS, replay
from imgrec.run import Run


@dataclass(kw_only=True)
class Replay(Stage):
    """Repeat a recorded run, its gallery extracted anew, and report whether the results are identical."""

    positional: ClassVar[str | None] = "run"

    run: str = option(path=True, help="the folder of a run: outputs/DATE/TIME-STAGE")

    def execute(self, run: Run) -> None:
        """Repeat the run in the folder `again`, and print `identical` or `different` and all differences.

        Raises:
            ImgrecError: the results differ.
        """
        again = run.folder / "again"
        again.mkdir()
        try:
            differences = replay(self.run, again, run)
        except UsageError:
            shutil.rmtree(again)
            raise
        differs = any(each.group == "result" for each in differences)
        shown = sorted(differences, key=lambda each: GROUPS.index(each.group))
        result = {
            "run": os.path.abspath(self.run),
            "identical": not differs,
            "differences": list(map(asdict, shown)),
        }
        run.counts.update({group: sum(each.group == group for each in shown) for group in GROUPS})
        run.write_json("results.json", result)
        run.print("\n".join(["different" if differs else "identical", *map(str, shown)]))
        if differs and not any(again.iterdir()):
            again.rmdir()
            raise ImgrecError(f"{self.run} cannot be run again as it was")
        if differs:
            raise ImgrecError(f"the results are not those of {self.run}: compare it with {again}")
