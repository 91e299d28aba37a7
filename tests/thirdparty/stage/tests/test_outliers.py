import imgrec
from imgrec.testing import check_stage, write_pictures


def filled(folder):
    """The stage on a gallery of nine pictures."""
    write_pictures(folder / "pictures")
    store = imgrec.build("store", "sqlite", path=str(folder / "gallery.sqlite"))
    imgrec.ingest(folder / "pictures", imgrec.build("extractor", "colour"), store)
    return imgrec.build("stage", "outliers", store=store, k=3)


def test_it_keeps_its_contract():
    check_stage(filled)
