"""`python -m imgrec`, and the command `imgrec`."""

from __future__ import annotations

import sys

from imgrec.cli.main import main, program

__all__ = ["main", "program"]

if __name__ == "__main__":
    sys.exit(program())
