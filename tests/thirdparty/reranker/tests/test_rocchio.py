import numpy as np

import imgrec
from imgrec.testing import check_reranker


def test_it_keeps_its_contract():
    check_reranker(imgrec.build("reranker", "rocchio"))
    check_reranker(imgrec.build("reranker", "rocchio", beta=0.0))


def test_it_is_the_weighted_mean():
    made = imgrec.build("reranker", "rocchio", beta=1.0).expand(np.float32([0, 0]), np.float32([[2, 0], [0, 4]]))
    np.testing.assert_allclose(made, [0.5, 1])
