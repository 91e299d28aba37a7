import imgrec
from imgrec.testing import check_index


def test_it_keeps_its_contract():
    check_index(imgrec.build("index", "ivf"))
    check_index(imgrec.build("index", "ivf", lists=5, seed=1))
