import pytest

import imgrec
from imgrec.testing import check_store


def test_it_keeps_its_contract():
    check_store(lambda folder: imgrec.build("store", "npz", path=str(folder / "gallery.npz")))


def test_a_file_that_is_no_store_is_told_and_left_alone(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"something else")
    with pytest.raises(imgrec.UsageError, match="is not an imgrec store"):
        imgrec.build("store", "npz", path=str(tmp_path / "x.npz")).open(create=True)
    assert (tmp_path / "x.npz").read_bytes() == b"something else"
