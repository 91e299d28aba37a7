import numpy as np

import imgrec
from imgrec.testing import check_metric


def test_it_keeps_its_contract():
    check_metric(imgrec.build("metric", "canberra"))


def test_differences_are_relative():
    found = imgrec.build("metric", "canberra").distances(np.array([1.0, 0]), np.array([[3.0, 0], [1, 5]]))
    np.testing.assert_allclose(found, [0.5, 1])
