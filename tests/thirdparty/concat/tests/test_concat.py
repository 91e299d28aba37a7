import imgrec
from imgrec.testing import check_extractor


def test_it_keeps_its_contract():
    colour, hog = (imgrec.build("extractor", name) for name in ("colour", "hog"))
    check_extractor(imgrec.build("extractor", "concat", first=colour, second=hog, factor=0.5))
