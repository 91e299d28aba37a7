"""A gallery that is damaged in every way it can be: found, told, and put right where it can be derived."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
from conftest import Cli, Result
from imgrec.drawing import map_file
from imgrec.errors import ImgrecError
from imgrec.gallery import fitted
from imgrec.kinds import Batch, Failure, Record
from imgrec.search import files as search_files
from imgrec.verification import verify

CHECKS = ["database", "rows", "vectors", "files", "digests", "derived files"]

STORE = Path("outputs/gallery.sqlite")


def wrong(result: Result) -> dict[str, int]:
    """What a check found, from the JSON on stdout; without those that found nothing."""
    return {each["check"]: each["wrong"] for each in result.json()["checks"] if each["wrong"]}


def verified(cli: Cli, *words: str, code: int = 0) -> dict[str, int]:
    return wrong(cli("verify", "format=json", *words, code=code))


def changed(cli_folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(cli_folder / STORE)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def rewritten(file: Path, content: bytes) -> None:
    """Another content of the same size and time of change, which no ingest notices."""
    status = file.stat()
    file.write_bytes(content.ljust(status.st_size, b"\0")[: status.st_size])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def segment(folder: Path) -> Path:
    """The one of a CSV store that has its records."""
    (found,) = folder.glob("[0-9]*/records.csv")
    return found.parent


@pytest.fixture
def ingested(few: Path, tmp_path: Path) -> Path:
    """Twelve images, one file that failed; with a backup."""
    (few / "bad.jpg").write_bytes(b"no image")
    store = imgrec.build("store", "sqlite", path=str(tmp_path / STORE))
    backup = imgrec.build("store", "csv", path=str(tmp_path / "outputs" / "gallery-csv"))
    imgrec.ingest(few, imgrec.build("extractor", "colour", bins=2), store, backup)
    return few


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_a_sound_gallery(cli: Cli, few: Path, tmp_path: Path, kind: str) -> None:
    backup = {"sqlite": "csv", "csv": "sqlite"}[kind]
    choice = [f"store={kind}", "store.path=g", f"backup={backup}", "backup.path=b"]
    (few / "bad.jpg").touch()
    cli("ingest", few, *choice, "extractor=colour", "extractor.bins=2")
    done = cli("verify", *choice, "sample=5")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["check", "looked", "at", "wrong", "fixed", "what", "is", "wrong"]
    assert [line[:-3] for line in lines[1:]] == [each.split() for each in [*CHECKS, "backup"]]
    assert [line[-3:] for line in lines[1:]] == [[str(count), "0", "0"] for count in (13, 12, 12, 12, 5, 0, 25)]
    assert done.record()["counts"] == dict.fromkeys([*CHECKS, "backup"], 0)
    assert wrong(cli("+stage=verify", "format=json", *choice, "sample=null", "fix=true")) == {}


def test_where_there_is_no_gallery_or_no_backup(cli: Cli, few: Path) -> None:
    assert "there is no gallery at" in cli("verify", code=2).err
    cli("ingest", few, "extractor=colour")
    assert "there is no gallery at" in cli("verify", "backup=csv", code=2).err
    both = cli("verify", "backup=sqlite", "backup.path=outputs/gallery.sqlite", code=2).err
    assert "store and backup are both outputs/gallery.sqlite" in both


# --- the database -------------------------------------------------------------------------------------------


def test_damage_of_any_page_is_told(few: Path, tmp_path: Path) -> None:
    """Whether it is seen at the first row, in the middle of many, or at the end of the transaction."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "sound.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    with store, store.writing():
        for i in range(60):  # records for many pages
            names = [f"/{'long ' * 40}/{j}.jpg" for j in range(i * 50, i * 50 + 50)]
            store.write(Batch(failures=[Failure(name, 1, 1, "broken " * 20, 0.0) for name in names]))
    sound = (tmp_path / "sound.sqlite").read_bytes()
    with closing(sqlite3.connect(tmp_path / "sound.sqlite")) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        used = {page for (page,) in db.execute("SELECT pageno FROM dbstat")}
    assert len(used) > 12
    for page in sorted(used):
        damaged = bytearray(sound)
        damaged[(page - 1) * size : (page - 1) * size + 100] = bytes(100)
        file = tmp_path / f"{page}.sqlite"
        file.write_bytes(damaged)
        try:
            findings = verify(imgrec.build("store", "sqlite", path=str(file)))
        except ImgrecError as error:
            assert str(file) in str(error), page
        else:
            assert any(each.wrong for each in findings), page


def test_damage_of_the_file(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    """A page of an index is overwritten: every row can be read, and a search by content misses some."""
    with closing(sqlite3.connect(tmp_path / STORE)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'images_by_content'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    damaged = bytearray((tmp_path / STORE).read_bytes())
    damaged[page * size - 40 : page * size] = bytes(40)
    (tmp_path / STORE).write_bytes(damaged)
    done = cli("verify", "fix=true", "format=json", "backup=csv", code=1)
    database = done.json()["checks"][0]
    assert (database["check"], database["fixed"]) == ("database", 0)
    assert all(line.startswith("PRAGMA integrity_check: ") for line in database["lines"])
    assert done.err.splitlines()[-1].startswith("imgrec: outputs/gallery.sqlite is not sound (database")
    assert (tmp_path / STORE).read_bytes() == damaged
    (tmp_path / STORE).unlink()
    cli("restore", "backup=csv")
    assert verified(cli, "backup=csv") == {}


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM images WHERE path LIKE '%china-0-0%'", "1 contents without an image"),
        ("DELETE FROM contents WHERE id = 3", "1 images without a content"),
        ("INSERT INTO failures SELECT path, 1, 1, 'x', 1.0, NULL FROM images LIMIT 1", "1 paths that both"),
        ("INSERT INTO vectors_1 VALUES (99, x'00')", "1 vectors of colour-35760381895d without a content"),
    ],
)
def test_rows_that_belong_to_nothing(cli: Cli, ingested: Path, tmp_path: Path, statement: str, told: str) -> None:
    changed(tmp_path, statement)
    done = cli("verify", "format=json", "fix=true", code=1)
    database = done.json()["checks"][0]
    assert any(told in line for line in database["lines"]), database
    assert database["fixed"] == 0


def test_vectors_of_other_lengths_are_never_searched(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    for short in ("x'0000803f'", f"x'{'00' * 36}'"):
        changed(tmp_path, f"UPDATE vectors_1 SET vector = {short} WHERE content = 2")
        told = cli("recommend", ingested / "china" / "china-0-0.jpg", code=1).err.splitlines()[-1]
        assert told == (
            "imgrec: store outputs/gallery.sqlite: space colour-35760381895d has vectors of other lengths than 8: "
            "`imgrec verify` tells which, and with fix=true the next ingest extracts them again"
        )


@pytest.mark.parametrize("value", ["x'0000803f'", "12", "'text'", "zeroblob(36)"])
def test_vectors_that_cannot_be_read_are_extracted_again(
    cli: Cli, ingested: Path, tmp_path: Path, value: str
) -> None:
    changed(tmp_path, f"UPDATE vectors_1 SET vector = {value} WHERE content IN (2, 9)")
    done = cli("verify", "format=json", code=1)
    assert wrong(done) == {"vectors": 2}
    assert "its vector in colour-35760381895d cannot be read" in done.out
    assert verified(cli, "fix=true") == {"vectors": 2}
    assert "2 new, 10 unchanged" in cli("ingest", ingested).out
    assert verified(cli) == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE spaces SET record = '{'",
        "UPDATE spaces SET record = '[]'",
        "UPDATE spaces SET record = '{\"key\": 1}'",
        "UPDATE spaces SET dim = 100",
        "INSERT INTO notes VALUES ('x', '{')",
        "DELETE FROM contents WHERE id = 3",
    ],
)
def test_damaged_rows_are_told_in_a_line(cli: Cli, ingested: Path, tmp_path: Path, statement: str) -> None:
    changed(tmp_path, statement)
    query = ingested / "china" / "china-0-0.jpg"
    for words in (("verify", "backup=csv", "fix=true"), ("recommend", query), ("info",)):
        done = cli(*words, code=None)
        assert "Traceback" not in done.err, words
        assert (words[0] != "verify") or done.code == 1


@pytest.mark.parametrize("row", ["/a,00,x,1,0", "/a,00,1"])
def test_a_csv_store_that_cannot_be_read(cli: Cli, tmp_path: Path, row: str) -> None:
    with imgrec.build("store", "csv", path=str(tmp_path / "csv")).open(create=True) as store:
        store.write(Batch([Record("/a", "00", 1, 1)]))
    (segment(tmp_path / "csv") / "records.csv").write_text(f"path,digest,size,time,missing\n{row}\n/b,00,1,1,0\n")
    last = cli("verify", "store=csv", "store.path=csv", code=1).err.splitlines()[-1]
    assert last.startswith("imgrec: store csv is damaged: ")


@pytest.mark.parametrize("value", ["nan", "zero", ""])
def test_vectors_of_a_csv_store_that_cannot_be_read(cli: Cli, few: Path, tmp_path: Path, value: str) -> None:
    """From the store that it is the backup of all comes back."""
    csv = ("store=csv", "store.path=outputs/gallery-csv")
    cli("ingest", few, "extractor=colour", "extractor.bins=2", "backup=csv")
    (file,) = (tmp_path / "outputs" / "gallery-csv").glob("[0-9]*/colour-*.csv")
    lines = file.read_text().splitlines(keepends=True)
    path, digest, _, *values = lines[3].split(",")
    file.write_text("".join([*lines[:3], ",".join([path, digest, value, *values]), *lines[4:]]))
    done = cli("verify", *csv, "format=json", "fix=true", code=1)
    assert f"{file.name} is damaged: " in done.json()["checks"][0]["lines"][0]
    assert "is damaged" in cli("recommend", few / "china" / "china-0-0.jpg", *csv, code=1).err
    told = cli("verify", "backup=csv", "fix=true", code=1)
    assert "gallery-csv: " in told.out
    assert "(backup)" in told.err


# --- rows and vectors ---------------------------------------------------------------------------------------


def test_a_record_without_a_vector_is_extracted_again(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    changed(tmp_path, "DELETE FROM vectors_1 WHERE content = 2")
    assert verified(cli, code=1) == {"rows": 1}
    assert verified(cli, "fix=true") == {"rows": 1}
    assert "1 new, 11 unchanged" in cli("ingest", ingested).out
    assert verified(cli) == {}


@pytest.mark.parametrize("value", ["0000c07f", "0000807f"], ids=["nan", "infinite"])
def test_vectors_that_are_not_finite(cli: Cli, ingested: Path, tmp_path: Path, value: str) -> None:
    good = cli("recommend", ingested / "china" / "china-0-0.jpg", "k=11").out
    changed(tmp_path, f"UPDATE vectors_1 SET vector = x'{value * 8}' WHERE content IN (2, 5)")
    told = cli("verify", "format=json", code=1)
    (check,) = (each for each in told.json()["checks"] if each["check"] == "vectors")
    assert (check["looked_at"], check["wrong"], check["fixed"]) == (12, 2, 0)
    assert all("values that are not finite" in line for line in check["lines"])
    assert verified(cli, "fix=true") == {"vectors": 2}
    assert "2 new, 10 unchanged" in cli("ingest", ingested).out
    assert verified(cli) == {}
    assert cli("recommend", ingested / "china" / "china-0-0.jpg", "k=11").out == good


def test_what_cannot_be_extracted_again_is_left(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    gone = ingested / "china" / "china-0-0.jpg"
    gone.rename(tmp_path / "elsewhere.jpg")
    changed(
        tmp_path,
        f"UPDATE vectors_1 SET vector = x'{'0000c07f' * 8}' WHERE content = "
        f"(SELECT content FROM images WHERE path = '{gone}')",
    )
    for left in ({"vectors": 1, "files": 1}, {"vectors": 1}):
        done = cli("verify", "format=json", "fix=true", code=1)
        assert wrong(done) == left
        assert "what is left cannot be derived" in done.err
    with imgrec.build("store", "sqlite", path=str(tmp_path / STORE)) as store:
        (record,) = store.records(paths=[str(gone)])
    assert record.missing
    (tmp_path / "elsewhere.jpg").rename(gone)
    assert verified(cli, "fix=true") == {"vectors": 1}
    assert "1 new, 11 unchanged" in cli("ingest", ingested).out


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_a_file_with_another_content_is_extracted_anew(cli: Cli, few: Path, kind: str) -> None:
    """Of the same size and time of change, before an ingest has seen it."""
    choice = (f"store={kind}", "store.path=g")
    cli("ingest", few, *choice, "extractor=colour")
    smaller, file = sorted((few / "china").iterdir(), key=lambda each: each.stat().st_size)[:2]
    rewritten(file, smaller.read_bytes())
    done = cli("verify", *choice, code=1)
    assert f"{file}: it has another content than when it was extracted" in done.out
    assert done.err.splitlines()[-1] == "imgrec: g is not sound (digests): fix=true repairs what can be derived"
    assert verified(cli, *choice, "fix=true") == {"digests": 1}
    assert "1 new, 11 unchanged" in cli("ingest", few, *choice).out
    assert verified(cli, *choice) == {}


def test_a_sample_is_the_seed_s(cli: Cli, ingested: Path) -> None:
    for file in (ingested / "china").iterdir():
        rewritten(file, b"\xff\xd8")
    assert verified(cli, "sample=null", code=1) == {"digests": 6}
    counts = {seed: verified(cli, "sample=4", f"seed={seed}", code=1)["digests"] for seed in (1, 2)}
    assert all(1 <= count <= 4 for count in counts.values())
    assert verified(cli, "sample=4", "seed=1", code=1)["digests"] == counts[1]


def test_files_that_are_gone_are_marked_as_missing(cli: Cli, ingested: Path) -> None:
    (ingested / "china" / "china-0-0.jpg").unlink()
    assert verified(cli, code=1) == {"files": 1}
    assert verified(cli, "fix=true") == {"files": 1}
    assert verified(cli) == {}
    assert "11 images, 12 contents, 1 missing" in cli("info").out


def test_a_pipe_and_a_folder_in_the_place_of_a_file(cli: Cli, ingested: Path) -> None:
    for name, make in (("china-0-0.jpg", os.mkfifo), ("china-0-1.jpg", os.mkdir)):
        (ingested / "china" / name).unlink()
        make(ingested / "china" / name)
    assert verified(cli, "fix=true") == {"digests": 2}
    assert verified(cli) == {}


# --- derived files ------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[imgrec.Store, Path]:
    """A store and the folder of its search index, which so few images would not get."""
    monkeypatch.setattr(search_files, "WORTH_KEEPING", 1)
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "indexed.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour", bins=4), store)  # 64 values: one level of axes
    with store:
        for _ in range(2):
            search_files.load(store, store.spaces()[0])
        ((folder, _),) = search_files.check(search_files.whole(store, store.spaces()[0]))
    return store, folder


def found(store: imgrec.Store, *, fix: bool = False) -> dict[str, tuple[int, int]]:
    """How many things were wrong and are left, in this process; without checks that found nothing."""
    return {each.check: (len(each.wrong), each.left) for each in verify(store, fix=fix) if each.wrong}


def test_a_sound_index(cli: Cli, indexed: tuple[imgrec.Store, Path]) -> None:
    done = cli("verify", "store.path=indexed.sqlite", "format=json").json()["checks"][-1]
    assert (done["check"], done["looked_at"], done["wrong"]) == ("derived files", 1, 0)


@pytest.mark.parametrize(
    ("name", "column"),
    [(name, ...) for name in ("vectors", "usable", "squares", "axes-0")]
    + [("terms-0", column) for column in (0, -4, -3, -2, -1)],
)
def test_an_index_that_is_not_the_store_s(indexed: tuple[imgrec.Store, Path], name: str, column: Any) -> None:
    """One row of many, or a single value of it, which the search's own samples would not see."""
    store, folder = indexed
    array = np.load(folder / f"{name}.npy", allow_pickle=False)
    row = array[7:8] if array.ndim == 1 else array[7]
    row[column] = ~row[column] if array.dtype == bool else row[column] * 1.01 + 0.01
    np.save(folder / f"{name}.npy", array)
    assert found(store) == {"derived files": (1, 1)}
    assert found(store, fix=True) == {"derived files": (1, 0)}
    assert not folder.exists()
    assert found(store) == {}


@pytest.mark.parametrize("name", ["about.json", "digests.npy", "terms-0.npy"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x93NUMPY"])
def test_an_index_that_cannot_be_read(indexed: tuple[imgrec.Store, Path], name: str, content: bytes) -> None:
    """Nor does it stop a search, which makes it again."""
    store, folder = indexed
    (folder / name).write_bytes(content)
    assert found(store) == {"derived files": (1, 1)}
    with store:
        assert search_files.load(store, store.spaces()[0]).images == 12
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    assert found(store, fix=True) == {"derived files": (1, 0)}


@pytest.fixture
def projected(indexed: tuple[imgrec.Store, Path]) -> tuple[imgrec.Store, Path, Path]:
    """A store, the folder of a projection of it, and that of the projected vectors."""
    store, _ = indexed
    reducer = imgrec.build("reducer", "pca", n_components=3)
    with store:
        fitted.load(store, store.spaces()[0], reducer, lambda names: ["" for _ in names])
        (folder, _), (vectors, _) = fitted.check(store)
    return store, folder, vectors


def test_a_sound_projection(cli: Cli, projected: tuple[imgrec.Store, Path, Path]) -> None:
    done = cli("verify", "store.path=indexed.sqlite", "format=json").json()["checks"][-1]
    assert (done["check"], done["looked_at"], done["wrong"]) == ("derived files", 3, 0)


def test_projected_vectors_that_are_not_the_projection_s(projected: tuple[imgrec.Store, Path, Path]) -> None:
    store, folder, vectors = projected
    array = np.load(vectors / "vectors.npy")
    array[7] += 1
    np.save(vectors / "vectors.npy", array)
    assert found(store) == {"derived files": (1, 1)}
    assert found(store, fix=True) == {"derived files": (1, 0)}
    assert (vectors.exists(), folder.exists()) == (False, True)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"space": []}', b"PK"])
@pytest.mark.parametrize("name", ["about.json", "state.npz"])
def test_a_projection_that_cannot_be_read(
    projected: tuple[imgrec.Store, Path, Path], name: str, content: bytes
) -> None:
    store, folder, _ = projected
    (folder / name).write_bytes(content)
    assert found(store) == {"derived files": (1, 1)}
    assert found(store, fix=True) == {"derived files": (1, 0)}
    assert not folder.exists()


def test_a_file_among_projections_is_none(projected: tuple[imgrec.Store, Path, Path]) -> None:
    store, folder, _ = projected
    (folder.parent / "notes.txt").write_text("mine")
    assert found(store) == {}


@pytest.mark.parametrize("images", ["x", None, [], -3, 0, 1e999, True])
def test_a_projection_of_no_number_of_images_is_not_used(
    projected: tuple[imgrec.Store, Path, Path], images: object, caplog: pytest.LogCaptureFixture
) -> None:
    store, folder, _ = projected
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "images": images}))
    assert found(store) == {"derived files": (1, 1)}
    with store:
        reducer = imgrec.build("reducer", "pca", n_components=3)
        fitted.load(store, store.spaces()[0], reducer, lambda names: ["" for _ in names])
    assert "is not used: it was changed" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"images": "q"}, {"images": 5}, {"fingerprint": "zz"}, {"leaks": ["a"]}, {"leaks": [-5.0]}, {"leaks": [0.0]}],
)
def test_an_index_that_tells_wrong_things_of_itself(
    indexed: tuple[imgrec.Store, Path], change: dict[str, object]
) -> None:
    store, folder = indexed
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, **change}))
    assert found(store) == {"derived files": (1, 1)}
    with store:
        assert len(search_files.load(store, store.spaces()[0]).digests) == 12


@pytest.fixture
def mapped(few: Path, tmp_path: Path) -> tuple[imgrec.Store, Path]:
    """A store and the folder of its map."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "mapped.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    with imgrec.open(store) as gallery:
        map_file.opened(gallery, imgrec.build("reducer", "pca"))
    (folder,) = tmp_path.glob("mapped.sqlite-index/maps/*/*")
    return store, folder


def test_maps_that_are_sound_or_of_an_earlier_state(mapped: tuple[imgrec.Store, Path], few: Path) -> None:
    store, _ = mapped
    assert verify(store)[-1].looked_at == 1
    next(few.rglob("*.jpg")).unlink()
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    assert found(store) == {}


@pytest.mark.parametrize("name", ["about.json", "positions.gz", "labels.gz", "items.sqlite", "reducer.npz"])
def test_a_map_that_is_not_whole(mapped: tuple[imgrec.Store, Path], name: str) -> None:
    store, folder = mapped
    file = folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert found(store) == {"derived files": (1, 1)}
    assert found(store, fix=True) == {"derived files": (1, 0)}
    assert not folder.exists()
    with imgrec.open(store) as gallery:
        map_file.opened(gallery, imgrec.build("reducer", "pca"))
    assert folder.exists()
    assert found(store) == {}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE items SET path = CAST('/elsewhere.jpg' AS BLOB) WHERE row = 3",
        "UPDATE items SET row = 99 WHERE row = 3",
        None,
    ],
)
def test_a_map_of_other_files(mapped: tuple[imgrec.Store, Path], change: str | None) -> None:
    store, folder = mapped
    if change is None:
        (folder / "labels.gz").write_bytes(map_file.packed(np.zeros(12, np.uint16)))
    else:
        with closing(sqlite3.connect(folder / "items.sqlite")) as items, items:
            items.execute(change)
    assert found(store) == {"derived files": (1, 1)}
    assert found(store, fix=True) == {"derived files": (1, 0)}


def test_a_map_in_the_place_of_another(mapped: tuple[imgrec.Store, Path]) -> None:
    store, folder = mapped
    folder.rename(folder.with_name("0123456789abcdef"))
    assert found(store) == {"derived files": (1, 1)}


def test_a_projection_of_a_space_that_is_gone(projected: tuple[imgrec.Store, Path, Path]) -> None:
    store, folder, _ = projected
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "space": "colour-000000000000"}))
    assert found(store) == {"derived files": (1, 1)}


def test_a_projection_whose_plugin_is_not_installed_is_left(
    projected: tuple[imgrec.Store, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    store, folder, _ = projected
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({**about, "reducer": "theirs"}))
    assert found(store, fix=True) == {}
    assert "is not checked: " in caplog.text
    assert folder.exists()


# --- the backup ---------------------------------------------------------------------------------------------


def _forget(backup: imgrec.Store) -> None:
    backup.write(Batch(forgotten=[next(backup.records()).path]))


def _add(backup: imgrec.Store) -> None:
    backup.write(Batch(records=[imgrec.Record("/extra.jpg", "ee", 1, 1)]))


def _vector(backup: imgrec.Store) -> None:
    (space,) = backup.spaces()
    names, vectors = backup.vectors(space)
    backup.write(Batch(vectors={space: (names[:1], vectors[:1] + np.float32(1e-6))}))


def _failure(backup: imgrec.Store) -> None:
    backup.write(Batch(forgotten=[next(backup.failures()).path]))


def _note(backup: imgrec.Store) -> None:
    backup.write(Batch(metadata={"extra": 1}))


@pytest.mark.parametrize(("change", "count"), [(_forget, 2), (_add, 1), (_vector, 1), (_failure, 1), (_note, 1)])
def test_a_backup_that_is_not_equal(cli: Cli, ingested: Path, tmp_path: Path, change: Any, count: int) -> None:
    with imgrec.build("store", "csv", path=str(tmp_path / "outputs" / "gallery-csv")) as backup:
        change(backup)
    assert verified(cli) == {}
    assert verified(cli, "backup=csv", code=1) == {"backup": count}
    assert verified(cli, "backup=csv", "fix=true") == {"backup": count}
    assert verified(cli, "backup=csv") == {}


@pytest.mark.parametrize("content", [None, "[]"])
def test_a_backup_that_lists_no_space(cli: Cli, ingested: Path, tmp_path: Path, content: str | None) -> None:
    """Its vectors lie there, and nobody would find them."""
    spaces = segment(tmp_path / "outputs" / "gallery-csv") / "spaces.json"
    spaces.unlink() if content is None else spaces.write_text(content)
    assert verified(cli, "backup=csv", code=1) == {"backup": 14}
    cli("verify", "backup=csv", "fix=true", code=None)
    assert verified(cli, "backup=csv") == {}
    assert verified(cli, "backup=csv") == {}
    (tmp_path / STORE).unlink()
    cli("restore", "backup=csv")
    assert verified(cli, "backup=csv") == {}


def test_restoring_without_vectors_says_so(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    (segment(tmp_path / "outputs" / "gallery-csv") / "spaces.json").unlink()
    (tmp_path / STORE).unlink()
    assert "12 images have no vector in the backup either: the next ingest" in cli("restore", "backup=csv").err
    assert "12 extracted" in cli("ingest", ingested, "extractor=colour", "extractor.bins=2").out


@pytest.mark.parametrize("content", [b"", bytes(range(128, 256)) * 20])
def test_a_backup_that_holds_nothing_is_not_restored(
    cli: Cli, ingested: Path, tmp_path: Path, content: bytes
) -> None:
    (segment(tmp_path / "outputs" / "gallery-csv") / "records.csv").write_bytes(content)
    (tmp_path / STORE).unlink()
    assert "holds no images: it is empty or damaged" in cli("restore", "backup=csv", code=1).err
    assert not (tmp_path / STORE).exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("spaces.json", "{", "spaces.json: Expecting property name"),
        ("spaces.json", "[1]", "a space has key, extractor, options and identity"),
        ("notes.json", "[]", "notes.json has a list, not a dict"),
        (
            "records.csv",
            "path,digest,size,time,missing\n/a,00,x,1,0\n/b,00,1,1,0\n",
            "records.csv, line 2: invalid",
        ),
        (
            "records.csv",
            "path,digest,size,time,missing\n/a,1,0\n/b,00,1,1,0\n",
            "records.csv, line 2: 3 cells, not 5",
        ),
    ],
)
def test_a_backup_that_cannot_be_read_is_told_with_file_and_line(
    cli: Cli, ingested: Path, tmp_path: Path, name: str, content: str, told: str
) -> None:
    (segment(tmp_path / "outputs" / "gallery-csv") / name).write_text(content)
    done = cli("verify", "backup=csv", "format=json", code=1)
    assert wrong(done) == {"backup": 1}  # what is told of the store is told nevertheless
    assert told in done.out
    refused = cli("ingest", ingested, "backup=csv", code=1).err.splitlines()[-1]
    assert told in refused
    assert refused.endswith("If it is a backup, move it away, and the next ingest makes it again")


def test_a_backup_never_follows_a_store_that_is_not_sound(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    changed(tmp_path, "DELETE FROM images WHERE path LIKE '%china-0%'")
    found = verified(cli, "backup=csv", "fix=true", code=1)
    assert found["database"] == 1
    assert found["backup"] >= 3
    (tmp_path / STORE).unlink()
    assert "12 images restored" in cli("restore", "backup=csv").out


def test_a_backup_never_follows_a_store_that_is_empty(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    (tmp_path / STORE).unlink()
    imgrec.build("store", "sqlite", path=str(tmp_path / STORE)).open(create=True).close()
    done = cli("verify", "backup=csv", "fix=true", code=1)
    assert "the store does not have it" in done.out
    assert "12 images restored" in cli("restore", "backup=csv").out


def test_vectors_that_only_the_backup_has(cli: Cli, ingested: Path, tmp_path: Path) -> None:
    changed(tmp_path, "DELETE FROM vectors_1 WHERE content = 2")
    gone = ingested / "china"
    gone.rename(tmp_path / "unplugged")
    ingest = cli("ingest", ingested / "flower")
    assert ingest.code == 0
    done = cli("verify", "backup=csv", "fix=true", "format=json", code=1)
    told = [line for check in done.json()["checks"] for line in check["lines"]]
    assert any("the store lacks: `imgrec restore` brings it back" in line for line in told)
    cli("restore", "backup=csv")
    (tmp_path / "unplugged").rename(gone)
    cli("ingest", ingested, "backup=csv")
    assert verified(cli, "backup=csv") == {}
