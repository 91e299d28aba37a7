"""`make bench`, or one part of it: `make bench ONLY=startup`."""

from __future__ import annotations

import os
import platform
import sys

from benchmarks import answer, search, startup

PARTS = {"startup": startup.run, "answer": answer.run, "search": search.run}


def main() -> None:
    only = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in only if name not in PARTS]:
        sys.exit(f"there is no benchmark {unknown[0]}: there are {', '.join(PARTS)}")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in only:
        print(f"\n## {name}\n\n{PARTS[name]()}")


if __name__ == "__main__":
    main()
