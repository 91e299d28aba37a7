import numpy as np

import imgrec
from imgrec.testing import check_engine, write_pictures


def test_it_keeps_its_contract():
    check_engine(imgrec.build("engine", "parallel", workers=2))


def test_vectors_are_those_of_threads(tmp_path):
    write_pictures(tmp_path / "pictures")
    held = []
    for name in ("threads", "parallel"):
        store = imgrec.build("store", "sqlite", path=str(tmp_path / f"{name}.sqlite"))
        engine = imgrec.build("engine", name)
        report = imgrec.ingest(tmp_path / "pictures", imgrec.build("extractor", "hog"), store, engine=engine)
        assert report.new == 9
        with store:
            (space,) = store.spaces()
            digests, vectors = store.vectors(space)
        held.append(dict(zip(digests, vectors, strict=True)))
    assert held[0].keys() == held[1].keys()
    assert all(np.array_equal(held[0][digest], held[1][digest]) for digest in held[0])
