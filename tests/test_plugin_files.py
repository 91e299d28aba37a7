"""Plugins that are single files: loaded by name, recorded with their digests, and never mistaken for another."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imgrec
from conftest import Cli
from imgrec import plugin_files, registry
from imgrec.errors import UsageError
from test_registry import GOOD, install


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mymodel.py"
    file.write_text(GOOD)
    return file


def test_a_run_with_a_plugin_file_is_recorded_and_replayed_with_just_this_content(
    cli: Cli, few: Path, file: Path
) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    cli("ingest", few, "extractor=grey", "plugins=[mymodel.py]")
    query = few / "china" / "china-0-0.jpg"
    cli("recommend", query, env={"IMGREC_PLUGINS": "mymodel.py"})
    record = (folder := cli("info").runs()[-2]).joinpath("run.json").read_text()
    assert f'"{file}": "{digest}"' in record
    assert f'"extractor=grey": "{file} {digest[:12]}"' in record
    without = cli("replay", folder, code=2).err
    assert without == f"imgrec: {folder} cannot be replayed without its plugin file: plugins=[{file}]\n"
    assert cli("replay", folder, "plugins=[mymodel.py]").out.startswith("identical")
    os.utime(file, (0, 0))
    copy = file.rename(file.parent / "renamed.py")
    assert cli("replay", folder, "plugins=renamed.py").out.startswith("identical")  # the content is what counts
    file.write_bytes(copy.read_bytes().replace(b"mean()", b"std() "))
    changed = cli("replay", folder, "plugins=[mymodel.py]", code=2).err
    assert f"the plugin file {file} has another content than it had then (sha256 {digest[:12]}..." in changed
    assert not (file.parent / "__pycache__").exists()


def test_jobs_of_a_sweep_in_other_processes_have_it(cli: Cli, few: Path, file: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", "evaluate", few, "extractor=colour,grey", "plugins=[mymodel.py]", "hydra/launcher=joblib"]
    done = cli(*words, "hydra.launcher.n_jobs=2", "format=json")
    jobs = done.json()["jobs"]
    assert {job["options"]["extractor"] for job in jobs} == {"colour", "grey"}
    assert [job["error"] for job in jobs] == [None, None]


def test_help_completion_and_the_list_of_plugins_have_it(cli: Cli, file: Path) -> None:
    assert cli("--help", "extractor=grey", "plugins=[mymodel.py]").out.startswith("extractor=grey: Mean grey")
    line = "imgrec ingest photos plugins=[mymodel.py] extractor=gr"
    env = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    assert cli("-sc", "query=zsh", env=env).out == "extractor=grey \n"
    assert f"{file} " in cli("plugins", "plugins=[mymodel.py]").out


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (None, "mymodel.py cannot be read: No such file or directory"),
        ("def f(:", "cannot be loaded: SyntaxError: invalid syntax (mymodel.py, line 1)"),
        ("\n\n1 / 0", "cannot be loaded: ZeroDivisionError: division by zero (line 3)"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3 (line 1)"),
        ("", "cannot be loaded: it has no hook: there are imgrec_components"),
        (GOOD.replace("power: float", "kind: float"), "has an option 'kind', and that name means something else"),
        (GOOD.replace("class Grey", "class Colour").replace("[Grey]", "[Colour]"), "two plugins claim"),
    ],
)
def test_a_file_that_does_not_load_is_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, code: str | None, told: str
) -> None:
    if code is not None:
        (tmp_path / "mymodel.py").write_text(code)
    done = cli("info", "plugins=[mymodel.py]", code=2)
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert not done.out


def test_a_name_that_an_installed_plugin_has_is_an_error_that_names_both(
    cli: Cli, file: Path, tmp_path: Path
) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    told = cli("info", "plugins=[mymodel.py]", env=env, code=2).err
    assert f"two plugins claim extractor=grey: imgrec_grey 2.5 and {file} " in told
    assert "leave the file out" in told


@pytest.mark.parametrize("name", ["my-model.py", "mymodel.txt", "mymodel", "."])
def test_what_is_no_plugin_file_is_told(name: str) -> None:
    with pytest.raises(UsageError, match="is called NAME"):
        imgrec.load_plugin(name)


def test_from_python_it_is_loaded_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plugin_files.VARIABLE, "")
    file = tmp_path / "of_python.py"
    image = np.full((4, 4, 3), 9, np.uint8)
    try:
        for shade, value in (("mean", 9), ("max", 9), ("ptp", None)):
            file.write_text(GOOD.replace("Grey", "Shade").replace("image.mean()", f"float(np.{shade}(image))"))
            assert imgrec.load_plugin(file) == ["extractor=shade"]
            assert imgrec.build("extractor", "shade").extract([image]) == [[value or 0]]
        assert plugin_files.digests() == {str(file): hashlib.sha256(file.read_bytes()).hexdigest()}
        sent = pickle.dumps(imgrec.build("extractor", "shade", power=2.0))
        code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).power)"
        done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
        assert done.stdout == b"2.0\n"
        twin = tmp_path / "other" / "of_python.py"
        twin.parent.mkdir()
        twin.write_text(GOOD)
        with pytest.raises(UsageError, match="two plugin files have one name"):
            imgrec.load_plugin(twin)
    finally:
        registry.manager().unregister(name="of_python:imgrec.plugin_files.of_python")
        for known in (registry.available, registry._components):
            known.cache_clear()
