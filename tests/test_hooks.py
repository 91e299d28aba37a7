"""Every hook is documented, and called by a test of its name here, by a plugin that is installed as anybody's."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import pytest

from conftest import Cli
from imgrec import hookspecs
from test_registry import GOOD, install

HOOKS = {name: each for name, each in vars(hookspecs).items() if name.startswith("imgrec_")}
IMPORTS = "import io, json\nfrom dataclasses import dataclass\nimport numpy as np\nimport imgrec\n"


def test_every_hook_has_a_test_of_its_name() -> None:
    tests = {name for name in vars(sys.modules[__name__]) if name.startswith("test_imgrec_")}
    assert tests == {f"test_{name}" for name in HOOKS}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_documented_with_signature_meaning_and_example(name: str) -> None:
    documentation = inspect.getdoc(HOOKS[name]) or ""
    meaning, _, rest = documentation.partition("\n\n")
    assert meaning.endswith(".")
    assert "Called " in rest
    signature = inspect.signature(HOOKS[name])
    assert ("Returns:" in rest) == (signature.return_annotation != "None")
    for parameter in signature.parameters:
        assert f"    {parameter}: " in rest[rest.index("Args:") :]
    example = rest.partition("Example::")[2]
    assert f"@imgrec.hookimpl\n    def {name}({', '.join(signature.parameters)}):" in example
    code = "\n".join(line.removeprefix("    ") for line in example.strip("\n").splitlines())
    compile(code, name, "exec")


def test_imgrec_components(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    assert "12 extracted" in cli("ingest", few, "extractor=grey", env=env).out


def test_a_plugin_with_stores(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = IMPORTS + (
        "from imgrec_sqlite import Sqlite\n"
        "@dataclass\nclass Lite(Sqlite):\n    path: str = imgrec.option('lite.db', path=True)\n"
        "@imgrec.hookimpl\ndef imgrec_components():\n    return [Lite]\n"
    )
    env = install(tmp_path / "site", "imgrec_lite", code)
    cli("ingest", few, "store=lite", env=env)
    assert (tmp_path / "lite.db").exists()
    cli("ingest", few, "backup=lite", "backup.path=a, b.db", env=env)
    assert (tmp_path / "a, b.db").exists()


def test_a_plugin_with_reducers(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = IMPORTS + (
        "from imgrec_pca import PCA\n"
        "@dataclass\nclass Mirror(PCA):\n    turned: bool = True\n"
        "    def fit_transform(self, vectors, labels=None):\n"
        "        return -super().fit_transform(vectors, labels)\n"
        "@imgrec.hookimpl\ndef imgrec_components():\n    return [Mirror]\n"
    )
    env = install(tmp_path / "site", "imgrec_mirror", code)
    cli("ingest", few)
    drawn = cli("visualise", "reducer=mirror", "reducer.turned=false", env=env)
    assert (drawn.runs()[-1] / "map.png").exists()


DECODER = (
    IMPORTS
    + '''
@dataclass
class Flat(imgrec.Decoder):
    """A made-up format: the width, and the colour of all pixels."""

    suffixes = (".flat",)

    @classmethod
    def recognises(cls, head):
        return head.startswith(b"FLAT")

    def open(self, data):
        import PIL.Image
        width, *colour = json.loads(data[4:])
        return PIL.Image.new("RGB", (width, width), tuple(colour))

@imgrec.hookimpl
def imgrec_components():
    return [Flat]
'''
)


def test_a_plugin_with_rerankers(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = IMPORTS + (
        "@dataclass\nclass Nearest(imgrec.Reranker):\n"
        "    def expand(self, query, nearest):\n        return nearest[0]\n"
        "@imgrec.hookimpl\ndef imgrec_components():\n    return [Nearest]\n"
    )
    env = install(tmp_path / "site", "imgrec_nearest", code)
    cli("ingest", few, "extractor=colour")
    done = cli("recommend", min(few.rglob("*.jpg")), "rerank=nearest", "format=json", env=env)
    assert json.loads(done.out)["matches"][0]["distance"] == 0  # the nearest one asks for itself


def test_a_plugin_with_decoders(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_flat", DECODER)
    (few / "red.flat").write_bytes(b"FLAT" + json.dumps([20, 255, 0, 0]).encode())
    (few / "named.jpg").write_bytes(b"FLAT" + json.dumps([30, 250, 5, 5]).encode())
    (few / "torn.flat").write_bytes(b"FLAT[20, 25")
    done = cli("ingest", few, env=env)
    assert "14 new" in done.out
    assert "torn.flat: broken image: " in done.err
    found = cli("recommend", few / "red.flat", "k=1", "format=paths", env=env)
    assert found.out.strip() == str(few / "named.jpg")
    assert '"kind": "decoder"' in cli("plugins", "format=json", env=env).out
    # Without the plugin a folder's *.flat is none of its images, and a file by another name none at all.
    assert "12 new" in cli("ingest", few, "store.path=without.sqlite").out


def test_a_file_that_failed_is_read_when_there_is_a_decoder_for_it(cli: Cli, few: Path, tmp_path: Path) -> None:
    (few / "red.jpg").write_bytes(b"FLAT" + json.dumps([20, 255, 0, 0]).encode())
    assert "1 failed" in cli("ingest", few).out
    env = install(tmp_path / "site", "imgrec_flat", DECODER)
    assert "1 new, 12 unchanged, 0 moved, 0 missing, 0 failed" in cli("ingest", few, env=env).out


@pytest.mark.parametrize(
    ("wrong", "told", "failed"),
    [
        (("(cls, head)", "(cls)"), "decoder=flat of imgrec_flat 2.5 left out: TypeError: ", 1),
        (("def open", "def opn"), "component Flat of imgrec_flat 2.5 left out: Flat lacks open", 0),
        (('(".flat",)', '"flat"'), "left out: Flat.suffixes are lower case with their dot, not 'flat'", 0),
        (('(".flat",)', '(".FLAT",)'), "left out: Flat.suffixes are lower case with their dot, not ('.FLAT',)", 0),
        (
            ("return PIL", "return None and PIL"),
            "red.flat: decoder flat returned NoneType, not a PIL",
            1,
        ),
        (("return PIL", "raise ValueError\n        return PIL"), "red.flat: broken image: ValueError", 1),
    ],
)
def test_a_faulty_decoder_costs_a_line_and_its_own_files(
    cli: Cli, few: Path, tmp_path: Path, wrong: tuple[str, str], told: str, failed: int
) -> None:
    assert wrong[0] in DECODER
    env = install(tmp_path / "site", "imgrec_flat", DECODER.replace(*wrong))
    (few / "red.flat").write_bytes(b"FLAT" + json.dumps([20, 255, 0, 0]).encode())
    done = cli("ingest", few, env=env)
    assert f"12 new, 0 unchanged, 0 moved, 0 missing, {failed} failed" in done.out
    assert len([line for line in done.err.splitlines() if told in line]) == 1


def test_a_decoder_that_fails_to_say_hides_no_other_one(cli: Cli, few: Path, tmp_path: Path) -> None:
    broken = DECODER.replace("Flat", "Aaa").replace("return head", "raise ValueError\n        return head")
    install(tmp_path / "site", "imgrec_aaa", broken.replace('".flat"', '".aaa"'))
    env = install(tmp_path / "site", "imgrec_flat", DECODER)
    (few / "red.flat").write_bytes(b"FLAT" + json.dumps([20, 255, 0, 0]).encode())
    done = cli("ingest", few / "red.flat", env=env)
    assert "1 new, 0 unchanged, 0 moved, 0 missing, 0 failed" in done.out
    assert done.err.count("decoder=aaa of imgrec_aaa") == 1


def test_imgrec_conf_packages(cli: Cli, few: Path, tmp_path: Path) -> None:
    hook = '\n@imgrec.hookimpl\ndef imgrec_conf_packages():\n    return ["imgrec_grey_conf"]\n'
    env = install(tmp_path / "site", "imgrec_grey", GOOD + hook)
    preset = tmp_path / "site" / "imgrec_grey_conf" / "extractor" / "dark.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text("defaults: [grey, _self_]\npower: 3.0\n")
    assert "|dark|" in cli("--help", env=env).out
    cli("ingest", few, "extractor=dark", env=env)
    assert "power=3.0" in cli("info", env=env).out


LISTENER = """
import imgrec, json, pathlib

@imgrec.hookimpl
def imgrec_run_{when}(run):
    told = dict(stage=run.stage, status=run.status, k=run.configuration["k"], choices=run.choices,
        counts=run.counts, timings=run.timings, error=run.error, sweep=str(run.sweep),
        files=sorted(file.name for file in run.folder.iterdir()))
    with pathlib.Path("told.jsonl").open("a") as file:
        file.write(json.dumps(told) + "\\n")
"""


def told(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]


def test_imgrec_run_started(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_listener", LISTENER.format(when="started"))
    done = cli("ingest", few, env=env)  # which has no k
    assert "listener imgrec_run_started of imgrec_listener 2.5 left out: KeyError: 'k'" in done.err
    assert "12 new" in done.out
    cli("recommend", few / "china" / "china-0-0.jpg", "k=4", env=env)
    (started,) = told(tmp_path)
    assert (started["stage"], started["status"], started["k"], started["counts"]) == (
        "recommend",
        "running",
        4,
        {},
    )
    assert started["choices"] == {
        "stage": "recommend",
        "store": "sqlite",
        "extractor": None,
        "projection": "none",
        "smoothing": "none",
        "rerank": "none",
        "index": "exact",
    }
    assert "run.json" in started["files"]  # type: ignore[operator]


def test_imgrec_run_finished(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_listener", LISTENER.format(when="finished"))
    cli("ingest", few)
    query = few / "china" / "china-0-0.jpg"
    cli("recommend", query, "k=4", env=env)
    cli("-m", "recommend", query, "k=1,2", env=env)
    cli("recommend", query, "space=nothing", env=env, code=2)
    single, *jobs, failed = told(tmp_path)
    assert (single["status"], single["counts"], single["sweep"]) == ("done", {"gallery": 12, "matches": 4}, "None")
    assert single["timings"]["search"] > 0  # type: ignore[index]
    assert "recommendations.png" in single["files"]  # type: ignore[operator]
    assert [job["k"] for job in jobs] == [1, 2]
    assert {Path(str(job["sweep"])).parent.parent.name for job in jobs} == {"sweeps"}
    assert failed["status"] == "failed"
    assert "no space" in str(failed["error"])
