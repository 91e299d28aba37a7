"""Nothing that is only looked at is run: no pickle, gallery, record, table, picture or name of a file."""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import pickle
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
import imgrec_sqlite
from conftest import Cli
from imgrec.search import files as search_files

SECRET = "${oc.env:IMGREC_SECRET}"
"""What Hydra would replace by an environment variable."""

ENV = {"IMGREC_SECRET": "the-secret"}


class Evil:
    """Makes a folder when its pickle is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Evil]:
    """A pickle that is seen to work, and in the end not to have been loaded."""
    folder = tmp_path / "trap"
    pickle.loads(pickle.dumps(Evil(folder)))
    folder.rmdir()
    yield Evil(folder)
    assert not folder.exists()


def evil_array(trap: Evil) -> bytes:
    """An array file that needs pickle."""
    file = io.BytesIO()
    np.save(file, np.array([trap], dtype=object), allow_pickle=True)
    return file.getvalue()


# --- pickles ------------------------------------------------------------------------------------------------


def _plain(trap: Evil, file: Path) -> None:
    file.write_bytes(pickle.dumps({"state_dict": trap}))


def _zipped(trap: Evil, file: Path) -> None:
    import torch

    torch.save({"state_dict": trap}, file)


def _legacy(trap: Evil, file: Path) -> None:
    import torch

    torch.save({"state_dict": trap}, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("make", "name"),
    [(_plain, "evil.pt"), (_plain, "evil.safetensors"), (_zipped, "evil.pt"), (_legacy, "evil.pth")],
)
def test_a_pickle_as_a_checkpoint(
    cli: Cli, few: Path, tmp_path: Path, trap: Evil, make: Callable[[Evil, Path], None], name: str
) -> None:
    pytest.importorskip("timm")
    make(trap, tmp_path / name)
    words = ["extractor=timm", "extractor.model=mobilenetv3_small_050", f"extractor.checkpoint={name}"]
    refused = cli("ingest", few, *words, code=2).err.splitlines()[-1]
    assert f"{name}' holds more than weights: " in refused or f"{name}' is a pickle that torch refuses" in refused
    assert not (tmp_path / "outputs" / "gallery.sqlite").exists()


@pytest.mark.parametrize("name", ["vectors", "digests", "terms-0"])
def test_a_pickle_as_a_file_of_the_index(
    few: Path,
    tmp_path: Path,
    trap: Evil,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(search_files, "WORTH_KEEPING", 1)
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), store)
    with store:
        (space,) = store.spaces()
        for _ in range(2):
            digests = search_files.load(store, space).digests.tolist()
        ((folder, _),) = search_files.check(search_files.whole(store, space))
        (folder / f"{name}.npy").write_bytes(evil_array(trap))
        assert search_files.load(store, space).digests.tolist() == digests
    assert "is made again" in caplog.text


def test_a_pickle_as_the_state_of_a_reducer(cli: Cli, few: Path, tmp_path: Path, trap: Evil) -> None:
    cli("ingest", few, "extractor=colour")
    words = [few / "china" / "china-0-0.jpg", "projection=pca", "projection.n_components=4"]
    found = cli("recommend", *words)
    (state,) = (tmp_path / "outputs" / "gallery.sqlite-index" / "projections").glob("*/state.npz")
    with np.load(state, allow_pickle=False) as arrays:
        names = arrays.files
    with zipfile.ZipFile(state, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", evil_array(trap))
    again = cli("recommend", *words)
    assert "is not used: ValueError: Object arrays cannot be loaded" in again.err
    assert again.out == found.out


# --- what a gallery, a record or a table says ---------------------------------------------------------------


def _space(change: Callable[[Any], None], tmp_path: Path) -> None:
    """Change what a gallery says of its space."""
    with closing(sqlite3.connect(tmp_path / "outputs" / "gallery.sqlite")) as db:
        record = json.loads(db.execute("SELECT record FROM spaces").fetchone()[0])
        change(record)
        db.execute("UPDATE spaces SET record = ?", (json.dumps(record),))
        db.commit()


TARGET = {"_target_": "os.mkdir", "_args_": ["trap"]}
"""What `hydra.utils.instantiate` would call."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["options"].update(TARGET), "extractor colour has no option '_target_'"),
        (lambda record: record["options"].update(bins=TARGET), "colour.bins takes int, not {'_target_'"),
        (lambda record: record["options"].update(bins=SECRET), f"colour.bins takes int, not '{SECRET}'"),
        (lambda record: record["options"].update(colour_space=SECRET), f"is one of rgb, hsv, lab, not '{SECRET}'"),
        (lambda record: record.update(extractor="os.mkdir"), "the extractor os.mkdir, which is not installed"),
        (lambda record: record.update(extractor=SECRET), f"the extractor {SECRET}, which is not installed"),
    ],
)
def test_what_a_gallery_says_of_its_extractor(
    cli: Cli, few: Path, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    cli("ingest", few, "extractor=colour")
    _space(change, tmp_path)
    outside = tmp_path / "outside.jpg"
    outside.write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"\0")
    for words in (("recommend", outside), ("ingest", few)):
        done = cli(*words, code=2, env=ENV)
        assert message in done.err
        assert "the-secret" not in done.out + done.err
    assert not (tmp_path / "trap").exists()
    assert "the-secret" not in cli("info", env=ENV).out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(TARGET), None),
        (lambda record: record["configuration"].update(TARGET), "recommend has no option '_target_'"),
        (lambda record: record["configuration"]["store"].update(TARGET), "store sqlite has no option '_target_'"),
        (lambda record: record["components"].update(store="os.mkdir"), "there is no store 'os.mkdir'"),
        (lambda record: record["configuration"].update(metric=SECRET), f"not '{SECRET}'"),
        (lambda record: record["gallery"]["spaces"][0].update(extractor="os.mkdir"), "no extractor 'os.mkdir'"),
    ],
)
def test_what_a_record_says_is_to_be_built(
    cli: Cli, few: Path, tmp_path: Path, change: Callable[[Any], None], message: str | None
) -> None:
    cli("ingest", few, "extractor=colour")
    run = cli("recommend", few / "china" / "china-0-0.jpg").runs()[-1]
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))
    for file in (run / ".hydra").glob("*.yaml"):  # nor is the configuration that Hydra kept beside it
        file.write_text("_target_: os.mkdir\n_args_: [trap]\n")
    done = cli("replay", run, code=2 if message else 0, env=ENV)
    assert (message or "") in done.err
    assert "the-secret" not in done.out + done.err
    assert not (tmp_path / "trap").exists()


def test_labels_and_names_of_files_are_only_names(cli: Cli, few: Path, tmp_path: Path) -> None:
    names = [SECRET, "__import__('os').mkdir('trap')", "$(mkdir trap)", "!!python,object,apply:os.mkdir [trap]"]
    folders = sorted((few / "china").iterdir())[:4]
    for name, file in zip(names, folders, strict=True):
        (few / name).mkdir()
        file.rename(few / name / f"{name}.jpg")
    lines = [f'"{file}","{names[i % 4]}"' for i, file in enumerate(sorted(few.rglob("*.jpg")))]
    (tmp_path / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    done = cli("evaluate", few, "extractor=colour", "labels=labels.csv", "k=1", "format=json", env=ENV)
    assert {row["label"] for row in done.json()["by_class"]} == set(names)
    found = cli("recommend", few / SECRET / f"{SECRET}.jpg", "format=json", "k=11", env=ENV)
    assert {match["label"] for match in found.json()["matches"]} >= set(names[1:])
    assert "the-secret" not in done.out + found.out + done.runs()[-1].joinpath("run.json").read_text()
    assert not (tmp_path / "trap").exists()


# --- pictures -----------------------------------------------------------------------------------------------


def test_postscript_is_not_run(cli: Cli, few: Path, tmp_path: Path) -> None:
    """Pillow would let Ghostscript interpret it, whatever the file is called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    ghostscript = programs / "gs"
    ghostscript.write_text(f"#!/bin/sh\nmkdir {tmp_path / 'trap'}\n")
    ghostscript.chmod(0o755)
    header = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (few / "picture.jpg").write_text(header)
    cli("ingest", few, env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})
    assert not (tmp_path / "trap").exists()
    assert [row["path"] for row in cli("failures", "format=json").json()] == [str(few / "picture.jpg")]


# --- the code itself ----------------------------------------------------------------------------------------

PLUGINS = Path(inspect.getfile(imgrec_sqlite)).parent

SOURCES = sorted(
    [
        *Path(inspect.getfile(imgrec)).parent.rglob("*.py"),
        *PLUGINS.glob("imgrec_*.py"),
        *PLUGINS.glob("imgrec_*/*.py"),
    ]
)

MODULES = frozenset("pickle cPickle dill cloudpickle joblib shelve marshal jsonpickle".split())

CALLS = frozenset(
    "eval exec compile __import__ os.system os.popen yaml.load yaml.unsafe_load pd.read_pickle "
    "instantiate hydra.utils.instantiate hydra.utils.call hydra.utils.get_method hydra.utils.get_class".split()
)
"""What runs, or may run, what it is given."""


def offences(source: str) -> list[str]:
    """What in a module could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if node.module and node.module.partition(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
            if called in CALLS or given.get("shell") is True:
                found.append(called)
            if called == "np.load" and given.get("allow_pickle") is not False:
                found.append(called)
            if called == "torch.load" and given.get("weights_only") is not True:
                found.append(called)
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: "/".join(file.parts[-2:]))
def test_no_module_has_what_would_run_data(file: Path) -> None:
    assert offences(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval(option)",
        "torch.load(file)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "torch.load(file, weights_only=False)",
        "subprocess.run(command, shell=True)",
        "hydra.utils.instantiate(record)",
    ],
)
def test_what_would_run_data_is_seen(source: str) -> None:
    assert len(offences(source)) == 1
