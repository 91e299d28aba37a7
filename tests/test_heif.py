"""HEIC photographs: read with the extra, and told how to be read without it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec import images
from imgrec.kinds import Image

pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")


@pytest.fixture
def photo(few: Path) -> PIL.Image.Image:
    return PIL.Image.open(few / "flower" / "flower-0-0.jpg")


def heic(photo: PIL.Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(photo).save(file, quality=95, **options)
    return file.getvalue()


def difference(one: Image, other: Image) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_a_heic_file_is_read(photo: PIL.Image.Image) -> None:
    assert difference(images.decode(heic(photo)), np.asarray(photo)) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright(photo: PIL.Image.Image, orientation: int) -> None:
    """As a phone writes it: the sensor's picture, and in EXIF how it was held."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    as_jpeg = io.BytesIO()
    photo.save(as_jpeg, "JPEG", quality=95, exif=exif)
    decoded = images.decode(heic(photo, exif=exif.tobytes()))
    assert difference(decoded, images.decode(as_jpeg.getvalue())) < 5


def test_transparency_is_composited_on_white(photo: PIL.Image.Image) -> None:
    photo = photo.copy()
    photo.putalpha(0)
    assert (images.decode(heic(photo)) > 250).all()


def test_a_broken_one_is_told(photo: PIL.Image.Image) -> None:
    with pytest.raises(images.UnreadableImageError, match="broken image"):
        images.decode(heic(photo)[:-500])
    with pytest.raises(images.UnreadableImageError, match="broken image"):
        images.decode(heic(photo)[:40])


def test_avif_is_read_without_the_extra(photo: PIL.Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgrec_heif.Heif.open", None)
    file = io.BytesIO()
    photo.save(file, "AVIF", quality=95)
    assert difference(images.decode(file.getvalue()), np.asarray(photo)) < 4


def test_without_the_extra_they_are_counted_with_the_command_that_installs_it(
    cli: Cli, few: Path, tmp_path: Path, photo: PIL.Image.Image
) -> None:
    (few / "flower" / "phone.HEIC").write_bytes(heic(photo))
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'pillow_heif' else find(name, *rest)\n"
    )
    without = {"PYTHONPATH": str(tmp_path / "blocked")}
    done = cli("ingest", few, env=without, fresh=True)
    assert "12 new, 0 unchanged, 0 moved, 0 missing, 0 failed" in done.out
    command = imgrec.install_command("imgrec[heif]")
    assert f"passed over: 1 .heic ({command})" in done.out
    named = cli("ingest", few / "flower" / "phone.HEIC", env=without, fresh=True, code=1)
    assert f"phone.HEIC: needs pillow_heif: {command}" in named.err
    assert command in cli("info", env=without, fresh=True).out
    assert command in cli("plugins", env=without, fresh=True).out
    query = cli("recommend", few / "flower" / "phone.HEIC", env=without, fresh=True, code=2)
    assert f"cannot be read: needs pillow_heif: {command}" in query.err
    # The next ingest, with the library there, reads it although it has not changed.
    assert "1 new, 12 unchanged, 0 moved, 0 missing, 0 failed" in cli("ingest", few).out
    nearest = cli("recommend", few / "flower" / "phone.HEIC", "k=1", "format=paths").out
    assert nearest.strip().endswith("flower-0-0.jpg")
    cli("recommend", few / "flower" / "phone.HEIC")
    assert any("recommendations.png" in path.name for path in tmp_path.glob("outputs/2*/*/*"))
