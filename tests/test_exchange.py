"""Vectors and records come back as they went out, and those of others are not taken for what they are not."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import imgrec
from conftest import Cli, shared_timm
from imgrec import Batch, Record, Space, UsageError
from imgrec.exchange.export import FORMS, export_vectors
from imgrec.exchange.importing import import_vectors

COLOUR = imgrec.build("extractor", "colour", bins=2)
SPACE = Space.of(COLOUR)


def stored(kind: str, path: Path) -> imgrec.Store:
    return imgrec.build("store", kind, path=str(path))  # type: ignore[no-any-return]


def held(store: imgrec.Store) -> tuple[list[Record], list[dict[str, bytes]]]:
    """All records, and by space the bytes of all vectors."""
    with store:
        vectors = [store.vectors(space) for space in store.spaces()]
        by_digest = [
            {digest: row.tobytes() for digest, row in zip(digests, rows, strict=True)} for digests, rows in vectors
        ]
        return sorted(store.records(), key=lambda record: record.path), by_digest


def written(folder: Path, form: str) -> Path:
    return folder / f"out{FORMS[form].suffix}"


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = st.one_of(TEXT, st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name).map(os.fsdecode))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
RECORDS = st.builds(
    Record,
    path=NAMES.map("/photos/{}".format).map(os.path.normpath),
    digest=st.sampled_from(["aa", "bb", "cc"]).map(lambda text: text * 32),  # so that some are copies
    size=st.integers(0, 2**62),
    mtime_ns=st.integers(-(2**62), 2**62),
    stamp=st.none() | st.just("12-34"),
    width=st.none() | st.integers(1, 2**20),
    height=st.none() | st.integers(1, 2**20),
    taken=st.none() | st.just("2024-05-31T18:04:09"),
    warning=st.none() | TEXT,
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["sqlite", "csv"])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(RECORDS, min_size=1, max_size=5, unique_by=lambda each: each.path),
    values=st.lists(FLOATS, min_size=9, max_size=9),
)
def test_what_comes_back_is_what_went_out(
    tmp_path_factory: pytest.TempPathFactory, kind: str, form: str, records: list[Record], values: list[float]
) -> None:
    """Any names, copies and values; bit for bit. Nothing is of an extractor's space that has not been proved."""
    folder = tmp_path_factory.mktemp("any")
    vectors = np.array(values, np.float32).reshape(3, 3)
    digests = sorted({record.digest for record in records})
    with stored(kind, folder / "first").open(create=True) as store:
        store.write(Batch(records=records, vectors={SPACE: (digests, vectors[: len(digests)])}))
    done = export_vectors(store, written(folder, form), form)
    found = import_vectors(written(folder, form), second := stored(kind, folder / "second"))
    assert held(second) == held(store)
    assert (done.images, found.new, found.not_here) == (len(records), len(records), len(records))
    assert [space.extractor for space in found.spaces] == ["imported"]
    assert found.claims == [SPACE]
    again = import_vectors(written(folder, form), second)
    assert (again.new, again.known, again.spaces) == (0, len(records), found.spaces)
    assert export_vectors(second, folder / "again", "numpy").digest == done.digest


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_a_fusion_that_is_proved_comes_back_as_the_store_was(
    few: Path, tmp_path: Path, kind: str, form: str
) -> None:
    (few / "copy.jpg").write_bytes((few / "china" / "china-0-0.jpg").read_bytes())
    parts = {"a b": COLOUR, "a_b": imgrec.build("extractor", "colour", bins=3)}
    fusion = imgrec.Fusion(weights={"a b": 1, "a_b": 2}, parts=parts)
    imgrec.ingest(few, fusion, store := stored(kind, tmp_path / "first"))
    export_vectors(store, written(tmp_path, form), form)
    found = import_vectors(written(tmp_path, form), second := stored(kind, tmp_path / "second"), extractor=fusion)
    assert held(second) == held(store)
    assert (found.new, found.compared, found.apart) == (13, 13, 0)
    with store, second:
        assert second.spaces() == store.spaces()
        assert second.metadata().items() <= store.metadata().items()
    match = imgrec.recommend(few / "copy.jpg", second)[0]
    assert match == imgrec.recommend(few / "copy.jpg", store)[0]
    import_vectors(written(tmp_path, form), third := stored(kind, tmp_path / "third"))
    assert imgrec.recommend(few / "copy.jpg", third)[0] == match  # by a fusion of what was imported


def test_other_programs_read_it(few: Path, tmp_path: Path) -> None:
    imgrec.ingest(few, COLOUR, store := stored("sqlite", tmp_path / "gallery"))
    for form in FORMS:
        export_vectors(store, written(tmp_path / form, form), form, where=lambda record: "/china/" in record.path)
    with store:
        digests, vectors = store.vectors(SPACE)
        true = {
            record.path: vectors[digests.index(record.digest)].tolist()
            for record in store.records()
            if "/china/" in record.path
        }
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(tmp_path / "parquet" / "out.parquet")
    assert dict(zip(frame["path"], map(list, frame["vector"]), strict=True)) == true
    assert set(frame["label"]) == {"china"}
    about = json.loads(parquet.read_schema(tmp_path / "parquet" / "out.parquet").metadata[b"imgrec"])
    assert Space.from_json(about["columns"][0]["space"]).identity == SPACE.identity
    table = pandas.read_csv(tmp_path / "numpy" / "out" / "records.csv")
    mapped = np.load(tmp_path / "numpy" / "out" / "vectors.npy", mmap_mode="r")
    assert dict(zip(table["path"], mapped.tolist(), strict=True)) == true
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not here to run load.sql")
    with contextlib.chdir(tmp_path / "duckdb" / "out"), duckdb.connect() as database:
        database.execute((tmp_path / "duckdb" / "out" / "load.sql").read_text())
        rows = database.execute("SELECT path, vector FROM images").fetchall()
        assert {path: list(vector) for path, vector in rows} == true
        one = min(true)
        found = database.execute("FROM nearest($1)", [one]).fetchall()
    distances = {path: np.linalg.norm(np.subtract(true[one], vector)) for path, vector in true.items()}
    nearest = sorted((distance, path) for path, distance in distances.items() if path != one)[:5]
    assert [path for path, _ in found] == [path for _, path in nearest]


# --- vectors of others ------------------------------------------------------------------------------------------


def true_of(photos: Path, extractor: imgrec.Extractor, folder: Path) -> tuple[list[str], imgrec.Vectors]:
    """The paths of photographs, sorted, and their vectors."""
    imgrec.ingest(photos, extractor, store := stored("sqlite", folder / "true"))
    records, _ = held(store)
    with store:
        digests, vectors = store.vectors(Space.of(extractor))
    return [each.path for each in records], vectors[[digests.index(each.digest) for each in records]]


@pytest.fixture(scope="module")
def theirs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], imgrec.Vectors]:
    return true_of(photos, COLOUR, tmp_path_factory.mktemp("true"))


def as_parquet(file: Path, paths: list[Any], vectors: Any, **others: Any) -> Path:
    parquet.write_table(pyarrow.table({"name": paths, "emb": list(vectors), **others}), file)
    return file


def as_arrays(folder: Path, paths: list[str], vectors: Any) -> Path:
    folder.mkdir()
    np.save(folder / "emb.npy", vectors)
    with (folder / "emb.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name"], *([path] for path in paths)])
    return folder / "emb.npy"


Write = Callable[[Path, list[str], Any], Path]
FORMS_OF_OTHERS = {
    "parquet": lambda folder, paths, vectors: as_parquet(folder / "theirs.parquet", paths, vectors),
    "numpy": lambda folder, paths, vectors: as_arrays(folder / "theirs", paths, vectors),
}


@pytest.mark.parametrize("form", FORMS_OF_OTHERS)
def test_vectors_of_others_are_of_a_space_of_their_own_until_proved(
    photos: Path, theirs: tuple[list[str], imgrec.Vectors], tmp_path: Path, form: str
) -> None:
    paths, vectors = theirs
    relative = [os.path.relpath(path, photos) for path in paths] + ["gone.jpg", "bad.jpg"]
    shutil.copytree(photos, root := tmp_path / "photos")
    (root / "bad.jpg").write_bytes(b"no picture")
    file = FORMS_OF_OTHERS[form](tmp_path, relative, np.vstack([vectors, vectors[:2]]).astype(np.float64))
    found = import_vectors(file, store := stored("sqlite", tmp_path / "gallery"), paths="name", root=root)
    assert (found.new, found.not_here, found.unreadable) == (40, 1, 1)
    (space,) = found.spaces
    assert (space.extractor, space.options["file"]) == ("imported", file.name)
    records, _ = held(store)
    proved = import_vectors(
        file, other := stored("csv", tmp_path / "other"), paths="name", root=root, extractor=COLOUR
    )
    assert (proved.spaces, proved.compared) == ([SPACE], 40)
    assert held(other) == (records, held(store)[1])
    imgrec.ingest(root, COLOUR, ingested := stored("sqlite", tmp_path / "ingested"))
    assert held(ingested)[0] == records  # as if they had been ingested
    assert import_vectors(file, ingested, paths="name", root=root).known == 40
    query = root / relative[0]
    assert imgrec.recommend(query, store) == imgrec.recommend(query, other)
    (tmp_path / "else.jpg").write_bytes(query.read_bytes() + b"0")
    with pytest.raises(UsageError, match=rf"vectors of {file.name}, and nothing here makes more of them"):
        imgrec.recommend(tmp_path / "else.jpg", store)


def swapped(vectors: Any) -> Any:
    vectors[[7, 30]] = vectors[[30, 7]]
    return vectors


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "other weights": (lambda them: np.random.default_rng(0).random(them.shape), "40 of 40.*Other weights"),
    "one other": (lambda them: np.vstack([them[:9], them[9:10] + 0.1, them[10:]]), "1 of 40 .*Other weights"),
    "shuffled": (
        lambda them: np.random.default_rng(0).permutation(them),
        "another order, that of .* is in the row of",
    ),
    "two swapped": (swapped, "2 of 40 .* another order"),
    "a row too many": (lambda them: np.vstack([them[:20], them[:1], them[20:]])[:40], "another order"),
    "scaled": (lambda them: 2 * them, "point the same way"),
    "of another length": (lambda them: them[:, :5], "have 5 values, and those of it 8"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_of_the_extractor_is_refused(
    theirs: tuple[list[str], imgrec.Vectors], tmp_path: Path, what: str
) -> None:
    change, message = WRONG[what]
    file = as_parquet(tmp_path / "theirs.parquet", theirs[0], change(theirs[1].copy()))
    with pytest.raises(imgrec.ImgrecError, match=message) as caught:
        import_vectors(file, stored("sqlite", tmp_path / "gallery"), paths="name", extractor=COLOUR)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "gallery").exists()


@pytest.mark.parametrize("seed", range(4))
def test_a_shift_is_found_by_a_few_files(
    theirs: tuple[list[str], imgrec.Vectors], tmp_path: Path, seed: int
) -> None:
    """Wherever it begins: the last row is always looked at."""
    begins = 39 - seed
    shifted = np.vstack([theirs[1][:begins], theirs[1][:1], theirs[1][begins:]])[:40]
    file = as_parquet(tmp_path / "theirs.parquet", theirs[0], shifted)
    with pytest.raises(imgrec.ImgrecError, match=r"Other|order"):
        import_vectors(file, stored("csv", tmp_path / "x"), paths="name", extractor=COLOUR, sample=2, seed=seed)


def test_another_interpolation_of_a_network_is_found(photos: Path, tmp_path: Path) -> None:
    """By real weights. What others give by the same steps is within the agreement, in half precision too."""
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(photos.rglob("*.jpg"))[::8]:
        shutil.copy(file, few)
    ours, other = (
        shared_timm("mobilenetv2_100", resize="exact", interpolation=each, runtime="torch")
        for each in ("bicubic", "bilinear")
    )
    paths, vectors = true_of(few, ours, tmp_path)
    good = as_parquet(tmp_path / "good.parquet", paths, vectors.astype(np.float16))
    found = import_vectors(good, stored("sqlite", tmp_path / "good"), paths="name", extractor=ours)
    assert found.compared == 5
    assert 0 < (found.apart or 0) < 1e-3
    bad = as_parquet(tmp_path / "bad.parquet", *true_of(few, other, tmp_path / "other"))
    with pytest.raises(imgrec.ImgrecError, match=r"5 of 5 vectors are others than its own, by 0.*Other weights"):
        import_vectors(bad, stored("sqlite", tmp_path / "bad"), paths="name", extractor=ours)


ROWS = [[0.0, 1.0], [1.0, 0.0]]
MALFORMED: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "no file": (lambda here: here / "x.parquet", {}, "does not exist"),
    "a picture": (lambda here: _text(here / "x.jpg", "no vectors"), {}, "neither a Parquet file nor an array"),
    "a file without a name": (lambda here: _text(here / "x", ""), {}, "neither a Parquet file nor an array"),
    "no Parquet": (lambda here: _text(here / "x.parquet", "PAR1 nothing PAR1"), {}, "cannot be read as Parquet"),
    "cut": (lambda here: _cut(as_parquet(here / "x.parquet", ["a", "b"], ROWS)), {}, "cannot be read as Parquet"),
    "pickled": (
        lambda here: as_arrays(here / "x", ["a"], np.array([{}], object)),
        {},
        "cannot be read as an array",
    ),
    "empty folder": (lambda here: here, {}, "has neither"),
    "no paths": (
        lambda here: as_parquet(here / "x.parquet", ["a", "b"], ROWS),
        {"paths": "x"},
        "paths= says .* name",
    ),
    "no vectors": (lambda here: as_parquet(here / "x.parquet", ["a"], ROWS[:1]), {"vectors": "x"}, "one of emb"),
    "two columns": (lambda here: as_parquet(here / "x.parquet", ["a"], ROWS[:1], b=ROWS[:1]), {}, "emb, b"),
    "twice": (lambda here: as_parquet(here / "x.parquet", ["a", "./a"], ROWS), {}, r"\./a a second time in row 2"),
    "no name": (lambda here: as_parquet(here / "x.parquet", ["a", None], ROWS), {}, "no path in row 2"),
    "uneven": (
        lambda here: as_parquet(here / "x.parquet", ["a", "b"], [[1.0], [1.0, 2.0]]),
        {},
        "2 values in row 2",
    ),
    "null": (lambda here: as_parquet(here / "x.parquet", ["a", "b"], [[1.0], None]), {}, "0 values in row 2"),
    "not finite": (
        lambda here: as_parquet(here / "x.parquet", ["a", "b"], [[1.0], [np.nan]]),
        {},
        "in row 2, .*/b",
    ),
    "too large": (lambda here: as_parquet(here / "x.parquet", ["a", "b"], [[1.0], [1e300]]), {}, "in row 2, .*/b"),
    "texts": (lambda here: as_parquet(here / "x.parquet", ["a"], [["1"]]), {}, "not vectors of numbers"),
    "a row too many": (lambda here: as_arrays(here / "x", ["a"], np.eye(2)), {}, r"has 2 rows, and emb\.csv 1"),
    "a row too few": (
        lambda here: as_arrays(here / "x", ["a", "b", "c"], np.eye(2)),
        {},
        r"2 rows, and emb\.csv 3",
    ),
    "flat": (lambda here: as_arrays(here / "x", ["a"], np.zeros(1)), {}, "not that of vectors"),
}


def _text(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _cut(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[:-40])
    return file


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_malformed_is_refused_in_a_line(tmp_path: Path, what: str) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"")
    make, options, message = MALFORMED[what]
    with pytest.raises(UsageError, match=message) as caught:
        import_vectors(
            make(tmp_path), stored("sqlite", tmp_path / "g"), **{"paths": "name", "root": tmp_path, **options}
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(format=99), "of a newer imgrec"),
        (lambda about: about.update(columns=[]), "is damaged"),
        (lambda about: about["columns"][0].update(space=1), "is damaged"),
        (lambda about: about["columns"][0].update(name="x"), "lacks its vectors x"),
        (lambda about: about.update(fusion={"weights": {}}), "is damaged"),
    ],
)
def test_what_an_export_says_is_not_trusted(
    few: Path, tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    imgrec.ingest(few, COLOUR, store := stored("sqlite", tmp_path / "gallery"))
    export_vectors(store, tmp_path / "out", "numpy")
    about = json.loads((tmp_path / "out" / "space.json").read_text())
    change(about)
    (tmp_path / "out" / "space.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match=message):
        import_vectors(tmp_path / "out", stored("sqlite", tmp_path / "other"))


def test_what_the_gallery_has_is_kept(few: Path, tmp_path: Path) -> None:
    imgrec.ingest(few, COLOUR, store := stored("sqlite", tmp_path / "gallery"))
    export_vectors(store, file := tmp_path / "out.parquet")
    changed, forgotten = few / "china" / "china-0-0.jpg", str(few / "china" / "china-0-1.jpg")
    changed.write_bytes((few / "flower" / "flower-0-0.jpg").read_bytes())
    imgrec.ingest(few, COLOUR, store)
    with store:
        store.write(Batch(dismissed=[forgotten]))
    before = held(store)[0]
    found = import_vectors(file, store)
    assert (found.known, found.kept, found.new) == (10, 2, 0)
    assert held(store)[0] == before


def test_the_command_line(here: Cli, few: Path, tmp_path: Path) -> None:
    here("ingest", few, "extractor=colour")
    exported = here("export", "mine.parquet")
    assert exported.out == "mine.parquet\n"
    digest = json.loads((exported.runs()[-1] / "results.json").read_text())["digest"]
    assert here("replay", exported.runs()[-1]).out == "identical\n"
    assert "force=true" in here("export", "mine.parquet", code=2).err
    (tmp_path / "mine.parquet").write_text("not ours")
    assert "no earlier export" in here("export", "mine.parquet", "force=true", code=2).err
    assert "no earlier export" in here("export", few, "form=numpy", "force=true", code=2).err
    assert "does not end in .parquet" in here("export", "mine.csv", code=2).err
    assert sorted(few.rglob("*.jpg"))
    for _ in range(2):
        here("export", "folder", "form=duckdb", "force=true")
    other = json.loads((here("export").runs()[-1] / "results.json").read_text())
    assert other["digest"] == digest
    made = exported.runs()[-1] / "gallery.parquet"
    imported = here("import", made, "store.path=other.sqlite")
    assert imported.out.startswith("other.sqlite: 12 new, in imported-")
    assert "extractor=colour proves" in imported.err
    assert "have no effect" in here("import", made, "extractor.bins=3", code=2).err
    assert "sample= has no effect" in here("import", made, "sample=3", code=2).err
    refused = here("import", made, "store.path=third.sqlite", "extractor=colour", "extractor.bins=3", code=1)
    assert "125 values, and those of it 27" in refused.err
    proved = here("import", made, "store.path=third.sqlite", "extractor=colour")
    assert "12 files were extracted again, and the vectors are what they claim" in proved.err
    query = few / "china" / "china-0-0.jpg"
    answers = [
        here("recommend", query, f"store.path={name}.sqlite", "format=paths").out for name in ("other", "third")
    ]
    assert answers[0] == answers[1]
    assert here("verify", "store.path=other.sqlite").code == 0
