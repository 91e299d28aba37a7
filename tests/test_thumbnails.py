"""The cache of thumbnails: bounded, and the oldest are removed first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from imgrec.serving.thumbnails import Thumbnails


def test_the_oldest_are_removed_when_there_is_no_more_room(photos: Path, tmp_path: Path) -> None:
    picture = next(photos.rglob("*.jpg")).read_bytes()
    size = len(Thumbnails(None).get("", 96, lambda: picture))
    thumbnails = Thumbnails(tmp_path, 5 * size)
    made: list[Path] = []
    for i in range(12):
        thumbnails.get(f"{i:064x}", 96, lambda: picture)
        (file,) = {*tmp_path.rglob("*.webp")} - {*made}
        os.utime(file, (i, i))
        made.append(file)
        held = [each for each in made if each.exists()]
        assert min(i + 1, 4) <= len(held) <= 5
        assert held == made[-len(held) :]
    assert thumbnails.get(f"{11:064x}", 96, lambda: b"") == made[11].read_bytes()
    assert len(thumbnails.get(f"{0:064x}", 96, lambda: picture)) == size
