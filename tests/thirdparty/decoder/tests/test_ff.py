import struct

import numpy as np

import imgrec
from imgrec.testing import check_decoder

RED = [65535, 0, 0, 65535]
FILE = b"farbfeld" + struct.pack(">II", 3, 2) + np.array([RED] * 6, ">u2").tobytes()


def test_it_keeps_its_contract():
    check_decoder(imgrec.build("decoder", "ff"), FILE)


def test_pixels_are_as_written():
    picture = imgrec.build("decoder", "ff").open(FILE)
    assert picture.size == (3, 2)
    assert (np.asarray(picture) == (255, 0, 0, 255)).all()


def test_a_folder_is_searched_for_them(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "red.ff").write_bytes(FILE)
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))
    assert imgrec.ingest(tmp_path / "photos", imgrec.build("extractor", "colour"), store).new == 1
