"""Filters: what passes is what a plain loop lets pass, everywhere; bad ones are refused in a line."""

from __future__ import annotations

import calendar
import fnmatch
import itertools
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli
from imgrec import Batch, Record, Space, UsageError
from imgrec.gallery.narrowing import filter_of

COLOUR = imgrec.build("extractor", "colour", bins=2)
SPACE = Space.of(COLOUR)

PLACES = ["/photos", "/photos/hat", "/photos/hat/2024", "/photos2/hat", "s3://photos/hat"]
TIMES = st.datetimes(datetime(2023, 12, 1), datetime(2025, 1, 31)).map(lambda time: time.replace(microsecond=0))
RECORDS = st.builds(
    lambda place, name, taken, size: Record(f"{place}/{name}.jpg", "", 1, 0, taken=taken, **size),
    place=st.sampled_from(PLACES),
    name=st.sampled_from(["a", "b 1", "[x]", "é", "\udcff"]),
    taken=st.none() | TIMES.map(datetime.isoformat),
    size=st.just({}) | st.fixed_dictionaries({"width": st.integers(1, 9), "height": st.integers(1, 9)}),
)


def period(text: str) -> tuple[datetime, datetime]:
    """The first moment of a time that is given in part, and the first one after it."""
    parts = [int(part) for part in text.replace("T", "-").replace(":", "-").split("-")]
    first = datetime(*[*parts, *[1, 1, 1, 0, 0, 0][len(parts) :]])  # type: ignore[arg-type]
    if len(parts) == 1:
        return first, first.replace(year=first.year + 1)
    days = calendar.monthrange(first.year, first.month)[1]
    step = {2: timedelta(days=days), 3: timedelta(1), 4: timedelta(hours=1), 5: timedelta(minutes=1)}
    return first, first + step.get(len(parts), timedelta(seconds=1))


def passes(record: Record, options: dict[str, Any]) -> bool:
    """The same in plain words."""
    tests = []
    several = {name: value if isinstance(value, list) else [value] for name, value in options.items()}
    if "among" in options:
        tests.append(any(fnmatch.fnmatchcase(record.path, each) for each in several["among"]))
    if "label" in options:
        tests.append(record.path.split("/")[-2] in several["label"])
    if "folder" in options:
        tests.append(any(record.path.startswith(f"{each.rstrip('/')}/") for each in several["folder"]))
    if "min_side" in options:
        tests.append(record.width is not None and min(record.width, record.height or 0) >= options["min_side"])
    if "taken" in options:
        first, dots, last = options["taken"].partition("..")
        last = last if dots else first
        time = datetime.fromisoformat(record.taken) if record.taken else None
        tests.append(
            time is not None and (not first or time >= period(first)[0]) and (not last or time < period(last)[1])
        )
    return all(tests)


def one_or_more(values: list[str]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values) | st.lists(st.sampled_from(values), min_size=1, max_size=2)


PARTS = st.tuples(TIMES.map(datetime.isoformat), st.sampled_from([4, 7, 10, 13, 16, 19])).map(
    lambda each: each[0][: each[1]]
)
RANGES = st.one_of(
    PARTS,
    PARTS.map("{}..".format),
    PARTS.map("..{}".format),
    st.tuples(PARTS, PARTS).filter(lambda pair: period(pair[0])[0] < period(pair[1])[1]).map("..".join),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "among": one_or_more(["*", "*/hat/*", "*.jpg", "/photos?/*", "*[[]x]*", "photos", "*é*"]),
        "label": one_or_more(["hat", "photos", "2024", "Hat"]),
        "folder": one_or_more(["/photos", "/photos/hat/", "/photos2", "s3://photos", "/"]),
        "min_side": st.integers(1, 9),
        "taken": RANGES,
    },
)


@settings(max_examples=150)
@given(records=st.lists(RECORDS, max_size=6), options=OPTIONS)
def test_what_passes_is_what_a_plain_loop_lets_pass(records: list[Record], options: dict[str, Any]) -> None:
    where = filter_of(options)
    assert (where is None) == (not options)
    if where is not None:
        assert [where(each) for each in records] == [passes(each, options) for each in records]


def test_the_last_moment_of_a_time_in_part_is_in_it() -> None:
    def is_in(taken: str, time: str) -> bool:
        where = filter_of({"taken": taken})
        assert where is not None
        return where(Record("/a.jpg", "", 1, 0, taken=time))

    assert is_in("2024-01..2024-06", "2024-06-30T23:59:59")
    assert not is_in("2024-01..2024-06", "2024-07-01T00:00:00")
    assert is_in("2024", "2024-12-31T23:59:59")
    assert is_in("2024-02-29 18:04..", "2024-02-29T18:04:00")
    assert not is_in("..2024-02-29 18:04", "2024-02-29T18:05:00")


BAD = {
    "label=": "a text or a list of some",
    "folder=": "a text or a list of some",
    "among=": "a text or a list of some",
    "taken=": "names no time",
    "taken=..": "names no time",
    "taken=yesterday": "yesterday is no time",
    "taken=2024-13": "2024-13 is no time",
    "taken=2023-02-29": "2023-02-29 is no time",
    "taken=2024-W05-1": "2024-W05-1 is no time",  # ISO, but it does not sort as text
    "taken=20240531": "20240531 is no time",
    "taken=2024..2023": "begins after its end",
    "taken=2024-01..x": "x is no time",
    "min_side=0": "at least 1",
    "min_side=big": "min_side",
    "min_side=nan": "min_side",
    "lable=hat": "did you mean label",
    "label=dog": "no image is left: of 12, label=dog leaves 0; labels are names of folders: china, flower",
    "among=hat/*": "patterns of whole paths",
    "folder=elsewhere": "folder=elsewhere leaves 0",
    "taken=2024": "the time of 12 is not known",
    "min_side=5000": "of 12, min_side=5000 leaves 0",
}


@pytest.fixture
def gallery(few: Path) -> imgrec.Store:
    """Twelve tiles, six each of `china` and `flower`, in the store of the command line."""
    store = imgrec.build("store", "sqlite", path=str(few.parent / "outputs" / "gallery.sqlite"))
    imgrec.ingest(few, COLOUR, store)
    return store  # type: ignore[no-any-return]


def test_bad_ones_are_a_line(here: Cli, gallery: imgrec.Store, few: Path, tmp_path: Path) -> None:
    """From the shell for one stage after the other in turn, and as options from Python."""
    picture = str(few / "china" / "china-0-0.jpg")
    stages = itertools.cycle(
        [
            ["recommend", picture],
            ["visualise", "reducer=pca"],
            ["evaluate"],
            ["export", str(tmp_path / "x"), "form=numpy"],
        ]
    )
    for (option, message), words in zip(BAD.items(), stages, strict=False):
        done = here(*words, option, code=2)
        assert message in done.err, (option, done.err)
        assert "Traceback" not in done.err
        name, _, value = option.partition("=")
        with pytest.raises(UsageError):
            imgrec.recommend(
                picture, gallery, where={name: int(value) if value.isdigit() and "side" in name else value}
            )
    wrong: list[Any] = [
        {"label": []},
        {"label": [""]},
        {"among": {"a": 1}},
        {"folder": [None]},
        "label=hat",
        {"": 1},
    ]
    for where in wrong:
        with pytest.raises(UsageError):
            filter_of(where)
    assert not (tmp_path / "x").exists()


def test_one_filter_everywhere(here: Cli, gallery: imgrec.Store, few: Path) -> None:
    """All that answers knows it, from the shell and from Python; distances are those of the whole gallery."""
    picture = few / "china" / "china-0-0.jpg"
    words = ["label=flower", "among=*-[01].jpg"]
    where = {"label": "flower", "among": "*-[01].jpg"}
    flowers = {path.as_posix() for path in (few / "flower").iterdir() if path.stem[-1] in "01"}
    assert len(flowers) == 4
    every = {match.path: match.distance for match in imgrec.recommend(picture, gallery, k=100)}

    found = here("recommend", picture, *words, "k=100", "format=json").json()
    assert {match["path"]: match["distance"] for match in found["matches"]} == {
        path: every[path] for path in flowers
    }
    assert found["where"] == where
    assert [match.path for match in imgrec.recommend(picture, gallery, 100, where=where)] == [
        match["path"] for match in found["matches"]
    ]

    map_csv = Path(here("visualise", "reducer=pca", *words).out.splitlines()[1])
    assert {line.split(",")[0] for line in map_csv.read_text().splitlines()[1:]} == flowers
    assert set(imgrec.visualise(gallery, imgrec.build("reducer", "pca"), where=where).paths) == flowers

    told = here("evaluate", *words, "labels=folder", "k=2", "format=json").json()
    assert (told["gallery"], told["queries"], told["where"]) == (4, 4, where)
    assert [each["label"] for each in told["by_class"]] == ["flower"]
    assert imgrec.evaluate(gallery, labels="folder", k=2, where=where)["map"] == told["map"] == 1

    out = here("export", "vectors", "form=numpy", *words)
    assert len(np.load(Path(out.out.strip(), "vectors.npy"))) == 4
    assert imgrec.export_vectors(gallery, few / "more", "numpy", where=where).images == 4

    with imgrec.open(gallery, where=where) as narrow:
        assert {record.path for record in narrow.records} == flowers
    with pytest.raises(UsageError, match="label=dog leaves 0"), imgrec.open(gallery, where={"label": "dog"}):
        pass


def test_folder_and_source_narrow_together_and_queries_apart_are_all_asked(here: Cli, few: Path) -> None:
    """`source` is ingested and is the gallery; of that, `folder` counts. Queries apart are no part of it."""
    (few / "china").rename(few.parent / "asked")
    (few / "other").mkdir()
    for file in list((few / "flower").iterdir())[:2]:
        file.rename(few / "other" / file.name)
    light = ["extractor=colour", "extractor.bins=2", "format=json", "k=2"]
    assert here("evaluate", few, *light).json()["gallery"] == 6
    assert here("evaluate", few, f"folder={few / 'flower'}", *light).json()["gallery"] == 4
    done = here("evaluate", few / "other", f"folder={few / 'flower'}", *light, code=2)
    assert "no image is left: of 2, folder=" in done.err
    found = here("evaluate", few, "queries=asked", f"folder={few / 'flower'}", *light).json()
    assert (found["gallery"], found["queries"]) == (4, 6)


def test_a_folder_is_the_same_by_each_way_there(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingested by a link and asked for by its target, the other way round, and by a relative path."""
    link = tmp_path / "link"
    link.symlink_to(few)
    for ingested, asked in itertools.product([few, link], repeat=2):
        store = imgrec.build("store", "sqlite", path=str(tmp_path / f"{ingested.name}.sqlite"))
        imgrec.ingest(ingested, COLOUR, store)
        with imgrec.open(store, where={"folder": asked / "china"}) as gallery:
            assert {record.path for record in gallery.records} == {
                str(ingested / "china" / path.name) for path in (few / "china").iterdir()
            }
    monkeypatch.chdir(few)
    with imgrec.open(store, where={"folder": ["china", "elsewhere"]}) as gallery:
        assert len(gallery.records) == 6
    # A link to a file is where the link is.
    (few / "new").mkdir()
    (few / "new" / "a.jpg").symlink_to(few / "china" / "china-0-0.jpg")
    imgrec.ingest(link, COLOUR, store)
    with imgrec.open(store, where={"folder": "new"}) as gallery:
        assert [Path(record.path).name for record in gallery.records] == ["a.jpg"]


def test_a_store_with_relative_paths_is_narrowed_by_whole_ones(few: Path, tmp_path: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"), paths="relative")
    imgrec.ingest(few, COLOUR, store)
    filters: list[dict[str, Any]] = [{"folder": few / "china"}, {"among": f"{few}/china/*"}]
    for where in filters:
        with imgrec.open(store, where=where) as gallery:
            assert len(gallery) == 6


def test_sizes_and_times_are_those_of_the_photographs(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:31 18:04:09"
    PIL.Image.effect_noise((30, 20), 90).convert("RGB").save(tmp_path / "dated.jpg", exif=exif)
    PIL.Image.effect_noise((50, 40), 90).convert("RGB").save(tmp_path / "large.jpg")
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(tmp_path, COLOUR, store)
    for where, name in (({"taken": "2024-05"}, "dated.jpg"), ({"min_side": 21}, "large.jpg")):
        with imgrec.open(store, where=where) as gallery:
            assert [Path(record.path).name for record in gallery.records] == [name]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.integers(-3, 3), min_size=3 * 8, max_size=3 * 8),
    labels=st.lists(st.sampled_from("abc"), min_size=8, max_size=8),
    label=st.sampled_from("abc"),
    k=st.integers(1, 9),
)
def test_a_narrowed_search_is_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], labels: list[str], label: str, k: int
) -> None:
    """In float64, ties in the order of paths; options as `among=`."""
    vectors = np.array(values, np.float32).reshape(8, 3)
    records = [Record(f"/{folder}/{i}.jpg", f"{i:064x}", 1, 0) for i, folder in enumerate(labels)]
    store = imgrec.build("store", "sqlite", path=str(tmp_path_factory.mktemp("any") / "g.sqlite"))
    with store.open(create=True):
        store.write(Batch(records=records, vectors={SPACE: ([each.digest for each in records], vectors)}))
    query = np.zeros(3, np.float32)
    far = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    expected = sorted((far[i], each.path) for i, each in enumerate(records) if labels[i] == label)[:k]
    with imgrec.open(store) as gallery:
        if not expected:
            with pytest.raises(UsageError, match=f"of 8, label={label} leaves 0"):
                gallery.search([query], k, {"label": label})
            return
        (matches,) = gallery.search([query], k, {"label": label})
    assert [match.path for match in matches] == [path for _, path in expected]
    assert np.allclose([match.distance for match in matches], [distance for distance, _ in expected], rtol=1e-12)
