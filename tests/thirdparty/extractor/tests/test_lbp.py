import numpy as np

import imgrec
from imgrec.presets import choices
from imgrec.testing import check_extractor


def test_it_keeps_its_contract():
    check_extractor(imgrec.build("extractor", "lbp"))
    check_extractor(imgrec.build("extractor", "lbp", radius=3, margin=0.0))


def test_shares_of_patterns_add_up_to_one():
    images = [np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)]
    np.testing.assert_allclose(imgrec.build("extractor", "lbp").extract(images).sum(axis=1), 1, rtol=1e-5)


def test_its_preset_is_found():
    assert "lbp_wide" in choices("extractor")
