import numpy as np

import imgrec
from imgrec.testing import check_reducer


def test_it_keeps_its_contract():
    check_reducer(imgrec.build("reducer", "jl"))
    check_reducer(imgrec.build("reducer", "jl", orthogonal=False, n_components=5))


def test_distances_stay_when_all_dimensions_do():
    vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    turned = imgrec.build("reducer", "jl", n_components=6, metric="euclidean").fit_transform(vectors)
    before, after = (np.linalg.norm(each[:, None] - each, axis=2) for each in (vectors, turned))
    np.testing.assert_allclose(before, after, atol=1e-5)
