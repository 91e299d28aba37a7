"""`make soak`, or one part of it: `make soak ONLY=kills`, or smaller: `make soak ONLY="rounds images=500"`.

Each module here that has a `run` is a part: its arguments are the options, and it returns a line that says what
was tried and how often, or fails. What a part tells that was not made smaller is kept in `results.json`, for the
table in `tests/README.md`.
"""

from __future__ import annotations

import datetime
import importlib
import json
import pkgutil
import sys
import time
from pathlib import Path

from soak import RESULTS


def main() -> None:
    parts = sorted(each.name for each in pkgutil.iter_modules([str(Path(__file__).parent)]))
    parts = [name for name in parts if hasattr(importlib.import_module(f"soak.{name}"), "run")]
    words = [word.partition("=") for word in sys.argv[1:]]
    only = [name for name, equals, _ in words if not equals] or parts
    if unknown := [name for name in only if name not in parts]:
        sys.exit(f"there is no part {unknown[0]}: there are {', '.join(parts)}")
    options = {name: int(value) for name, equals, value in words if equals}
    for name in only:
        start = time.monotonic()
        told = str(importlib.import_module(f"soak.{name}").run(**options))
        print(f"{name}: {told}, in {time.monotonic() - start:,.0f} s", flush=True)
        if not options:
            found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            found[name] = {"day": datetime.date.today().isoformat(), "told": told}
            RESULTS.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
