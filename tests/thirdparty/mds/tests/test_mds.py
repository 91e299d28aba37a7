import imgrec
from imgrec.testing import check_reducer


def test_it_keeps_its_contract():
    check_reducer(imgrec.build("reducer", "mds"))
