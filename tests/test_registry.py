"""Plugins of others: found, listed, and never in the way of a run that does not use them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import PIL.Image
import pytest

import imgrec
from conftest import Cli
from imgrec import hookspecs, registry
from imgrec.errors import UsageError
from imgrec.kinds import KINDS

GOOD = '''
from dataclasses import dataclass
import numpy as np
import imgrec
from imgrec.options import option

@dataclass
class Grey(imgrec.Extractor):
    """Mean grey of an image."""

    power: float = option(1.0, minimum=0, help="of the values")

    def extract(self, images):
        return np.stack([[image.mean() ** self.power] for image in images]).astype(np.float32)

@imgrec.hookimpl
def imgrec_components():
    return [Grey]
'''


def install(site: Path, name: str, code: str) -> dict[str, str]:
    """A distribution as pip leaves it: a module, and metadata with an entry point. Returns the environment."""
    (site / f"{name}-2.5.dist-info").mkdir(parents=True)
    (site / f"{name}.py").write_text(code)
    (site / f"{name}-2.5.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n"
    )
    (site / f"{name}-2.5.dist-info" / "entry_points.txt").write_text(f"[imgrec]\n{name} = {name}\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


def test_a_plugin_of_another_distribution_is_typed_listed_and_swept(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    assert (
        "extractor=clip|clip_vit_b32|colour|dinov2_small|efficientnet_b0|fusion|grey|handcrafted|hog|"
        in cli("--help", env=env).out
    )
    assert "extractor.power=1.0" in cli("ingest", "--help", env=env).out
    listed = {each["name"]: each for each in cli("plugins", "format=json", env=env).json()}
    assert listed["grey"]["distribution"] == "imgrec_grey"
    assert listed["grey"]["version"] == "2.5"
    assert listed["grey"]["options"] == {"power": 1.0}
    assert (
        "not 'x'|converted to Float"
        not in cli("ingest", few, "extractor=grey", "extractor.power=x", env=env, code=2).err
    )
    assert "did you mean power?" in cli("ingest", few, "extractor=grey", "extractor.powr=1", env=env, code=2).err
    cli("-m", "ingest", few, "extractor=colour,grey", env=env)
    found = cli("recommend", few / "china" / "china-0-0.jpg", "space=grey", "format=json", env=env).json()
    assert found["space"].startswith("grey-")
    without = cli("recommend", few / "china" / "china-0-0.jpg", "extractor=grey", code=2)
    assert "no extractor 'grey'" in without.err


def test_options_of_every_kind(cli: Cli, few: Path, tmp_path: Path) -> None:
    fields = """
    size: Size = Size.small
    table: Path = Path("x.csv")
    weights: dict[str, float] = imgrec.option({"a": 1.0})
    sides: list[int] = imgrec.option([1, 2])
    limit: int | None = None
    power"""
    code = GOOD.replace("\n    power", fields).replace(
        "@dataclass\n",
        "from enum import Enum\nfrom pathlib import Path\nSize = Enum('Size', 'small large')\n@dataclass\n",
    )
    env = install(tmp_path / "site", "imgrec_grey", code)
    words = ["extractor=grey", "extractor.size=large", "extractor.weights.b=2", "extractor.sides=[3]"]
    cli("ingest", few, *words, env=env)
    query = tmp_path / "outside.jpg"
    query.write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"x")
    cli("recommend", query, env=env)  # builds the extractor from what was recorded
    told = cli("info", "format=json", env=env).json()["spaces"][0]["options"]
    assert (told["size"], told["weights"], told["sides"]) == ("large", {"a": 1.0, "b": 2.0}, [3])


def test_an_option_that_hydra_does_not_take_costs_a_warning(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = GOOD.replace("    power", "    mode: Literal['a', 'b'] = 'a'\n    power").replace(
        "import numpy", "from typing import Literal\nimport numpy"
    )
    env = install(tmp_path / "site", "imgrec_grey", code)
    done = cli("ingest", few, env=env)
    assert "12 new" in done.out
    assert "extractor=grey of imgrec_grey 2.5 left out" in done.err


def test_a_plugin_that_builds_another_while_it_is_imported(cli: Cli, few: Path, tmp_path: Path) -> None:
    """It would see the plugins before it only, and would itself be left out without a word."""
    site = tmp_path / "site"
    env = install(
        site,
        "imgrec_grey",
        GOOD.replace("@dataclass\n", "COLOUR = imgrec.build('extractor', 'colour')\n@dataclass\n"),
    )
    done = cli("ingest", few, env=env)
    assert "12 new" in done.out
    assert "plugin imgrec_grey of imgrec_grey 2.5 left out: it asks for plugins while it is imported" in done.err


def test_members_of_an_enum_are_choices(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = GOOD.replace("@dataclass\n", "from enum import Enum\nSize = Enum('Size', 'small LARGE')\n@dataclass\n")
    code = code.replace(
        "    power", "    size: Size = Size.small\n    sides: int = option(9, choices=[9, 18])\n    power"
    )
    env = install(tmp_path / "site", "imgrec_grey", code)
    told = cli("ingest", "--help", "extractor=grey", env=env).out
    assert re.search(r"extractor.size=small +\(small, LARGE\)", told)
    assert re.search(r"extractor.sides=9 +\(9, 18\)", told)
    assert "extractor=colour:" not in told  # only what is asked about
    assert (
        "extractor.sides is one of 9, 18, not '5'"
        in cli("ingest", few, "extractor=grey", "extractor.sides=5", env=env, code=2).err
    )
    cli("ingest", few, "extractor=grey", "extractor.sides=9", env=env)
    assert "grey-" in cli("info", env=env).out
    assert "size=" not in cli("info", env=env).out  # it is the default
    assert cli("ingest", few, "extractor=grey", env=env).record()["configuration"]["extractor"]["size"] == "small"


def test_a_gallery_whose_extractor_is_gone(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    cli("ingest", few, "extractor=grey", env=env)
    found = cli("recommend", few / "china" / "china-0-0.jpg", "format=paths")  # which needs none
    assert found.out.count("\n") == 5
    query = tmp_path / "outside.jpg"
    query.write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"x")
    gone = "is of the extractor grey, which is not installed here"
    assert f"{gone}; if it is a file, name it: plugins=[FILE.py]" in cli("recommend", query, code=2).err
    assert gone in cli("ingest", few, code=2).err
    cli("ingest", few, "extractor=colour")
    (few / "china" / "china-0-1.jpg").unlink()
    left = cli("ingest", few)  # the other spaces are brought up to date
    assert gone in left.err
    assert "1 missing" in left.out


def test_an_extractor_that_fails_on_an_image_is_named_with_it(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = GOOD.replace(
        "        return np", "        assert min(i.shape[0] for i in images) > 9, 'too small'\n        return np"
    )
    env = install(tmp_path / "site", "imgrec_grey", code)
    PIL.Image.new("RGB", (9, 9)).save(few / "small.png")
    done = cli("ingest", few, "extractor=grey", env=env, code=1)
    assert done.err.splitlines()[-1] == (
        f"imgrec: extractor grey of imgrec_grey 2.5 failed on {few / 'small.png'}: AssertionError: too small; "
        "debug=true shows where"
    )
    assert "line 14, in extract" in cli("ingest", few, "extractor=grey", "debug=true", env=env, code=1).err
    done = cli("-m", "ingest", few, "extractor=grey", "debug=false", env=env, code=1)
    assert "AssertionError: too small; debug=true shows where\n" in done.err


def test_an_extractor_that_fails_on_a_query_is_named_with_it(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    cli("ingest", few, "extractor=grey", env=env)
    module = tmp_path / "site" / "imgrec_grey.py"
    module.write_text(
        module.read_text().replace("        return np", "        raise OSError('no')\n        return np")
    )
    query = tmp_path / "outside.jpg"
    query.write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"x")
    for words in (("recommend", query), ("evaluate", "labels=none")):
        done = cli(*words, env=env, code=1)
        assert "imgrec: extractor grey of imgrec_grey 2.5 failed on " in done.err.splitlines()[-1]
        assert done.err.endswith("OSError: no; debug=true shows where\n")


@pytest.mark.parametrize("returned", ["[[1.0]]", "np.ones((1, 1))", "np.ones((2, 1), np.float32)"])
def test_what_a_plugin_returns_for_a_query_is_checked(cli: Cli, few: Path, tmp_path: Path, returned: str) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    cli("ingest", few, "extractor=grey", env=env)
    module = tmp_path / "site" / "imgrec_grey.py"
    module.write_text(module.read_text().replace("return np.stack", f"return {returned}\n        np.stack"))
    query = tmp_path / "outside.jpg"
    query.write_bytes((few / "china" / "china-0-0.jpg").read_bytes() + b"x")
    assert "extractor grey returned" in cli("recommend", query, env=env, code=1).err


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("import a_library_that_is_not_there", "No module named 'a_library_that_is_not_there'"),
        (
            "import imgrec\n@imgrec.hookimpl\ndef imgrec_components():\n    return ['rubbish']",
            "returned 'rubbish'",
        ),
        ("import imgrec\n@imgrec.hookimpl\ndef imgrec_components():\n    return 1 / 0", "division by zero"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise BaseException('odd')", "BaseException: odd"),
        (
            "class Odd(Exception):\n    def __str__(self): raise self\nraise Odd",
            "Odd: an error that cannot be printed",
        ),
        ("import imgrec, sys\n@imgrec.hookimpl\ndef imgrec_components():\n    sys.exit(3)", "SystemExit: 3"),
        (
            "import imgrec\n@imgrec.hookimpl\ndef imgrec_conf_packages():\n    return 'json'",
            "returned 'json': it returns",
        ),
        (
            "import imgrec\n@imgrec.hookimpl\ndef imgrec_run_started(run):\n    raise SystemExit(4)",
            "SystemExit: 4",
        ),
        (GOOD.replace("    power", "    name = 5\n    power"), "Grey.name cannot be chosen: it is 5"),
        (
            GOOD.replace("    power", "    name = 'yes'\n    power"),
            "Grey.name cannot be chosen: 'yes' means something else to imgrec or YAML",
        ),
        (GOOD.replace("    power", "    requires = ['torch', 'a b']\n    power"), "Grey.requires maps modules to"),
        (GOOD.replace("    power", "    requires = {'torch': None}\n    power"), "Grey.requires maps modules to"),
        ("imgrec_contract = '1'\n" + GOOD, "imgrec_contract is a whole number, not '1'"),
        (GOOD.replace("@dataclass\n", ""), "Grey has options, power, and no @dataclass above it"),
        (GOOD.replace("power: float = option", "power = option"), "'power' is a field but has no type annotation"),
        (GOOD.replace("def extract", "def extrct"), "Grey lacks extract"),
        (
            GOOD.replace("imgrec.Extractor", "imgrec.Reducer").replace("def extract(self", "def fit(self"),
            "Grey lacks transform, state, restore: a reducer has fit, transform, state, restore, or fit_transform",
        ),
        (GOOD.replace("imgrec.Extractor", "imgrec.Reducer"), "Grey lacks fit, transform, state, restore: a "),
        (
            GOOD.replace("Extractor", "Stage")
            .replace("    power", "    stage: int = 1\n    power")
            .replace("def extract", "def execute"),
            "Grey has an option 'stage', which means something else on the command line",
        ),
        (
            GOOD.replace("Extractor", "Stage")
            .replace("    power", "    ranking = imgrec.Ranking({'a': 'A'}, {})\n    power")
            .replace("def extract", "def execute"),
            "Grey.ranking has no cost: it wants both",
        ),
        (
            GOOD.replace("Extractor", "Stage")
            .replace("    power", "    thing: object = imgrec.component('nosuch')\n    power")
            .replace("@dataclass", "@dataclass(kw_only=True)")
            .replace("def extract", "def execute"),
            "Grey.thing is of a group 'nosuch': the groups are extractor, store, ",
        ),
        (
            GOOD.replace("imgrec.Extractor", "imgrec.Index")
            .replace("    power", "    name = 'exact'\n    power")
            .replace(
                "def extract(self, images)",
                "def build(self, *a): pass\n    def open(self, f): pass\n    def candidates(self, *images)",
            ),
            "Grey.name cannot be chosen: 'exact' means something else to imgrec or YAML",
        ),
        ("from imgrec import contracts\n" + GOOD, "`import imgrec` has all that a plugin needs"),
        (
            GOOD.replace("Extractor", "Stage").replace("def extract", "positional = 'x'\n    def execute"),
            "Grey.positional is 'x', and that is none of its options",
        ),
        (GOOD.replace("return [Grey]", "return Grey"), "imgrec_components returned a class: it returns a list"),
        ("x = 1", "it has no hook: there are imgrec_components, "),
        ("def imgrec_components():\n    return []", "not marked with @imgrec.hookimpl: imgrec_components"),
        (
            "import imgrec\n@imgrec.hookimpl\ndef imgrec_component():\n    return []",
            "there is no imgrec_component (did you mean imgrec_components?)",
        ),
        ("import imgrec\n@imgrec.hookimpl\ndef imgrec_run_started(whom):\n    pass", "whom"),
        (
            "imgrec_contract = 3\n" + GOOD,
            "made for version 3 of the contract, and this imgrec has 2: upgrade imgrec, or",
        ),
        *(
            (
                f"import imgrec\n@imgrec.hookimpl\ndef {old}():\n    return []",
                f"{old} was a hook of version 1 of the contract, and this imgrec has 2: {new} takes its place",
            )
            for old, new in hookspecs.REPLACED.items()
        ),
        (
            "imgrec_contract = 1\n" + GOOD.replace("imgrec_components", "imgrec_extractors"),
            "imgrec_components takes its place, for classes of all kinds",
        ),
        (
            "from imgrec.contracts import Image\n" + GOOD,
            "there is no imgrec.contracts in this imgrec: `import imgrec` has all that a plugin needs",
        ),
        (GOOD.replace("imgrec.Extractor", "imgrec.Component"), "Grey is derived from none of imgrec.Extractor, "),
        (
            "imgrec_contract = 0\n" + GOOD,
            "made for version 0 of the contract, and this imgrec has 2: upgrade it, or",
        ),
        (
            GOOD.replace("    power", "    version: int = 2\n    power"),
            "Grey has an option 'version', and that name",
        ),
        (GOOD.replace("    power", "    name: str = 'x'\n    power"), "Grey has an option 'name', and that name"),
        (
            "import imgrec\n@imgrec.hookimpl\ndef imgrec_conf_packages():\n    return ['nowhere']",
            "no package 'nowhere'",
        ),
    ],
)
def test_a_broken_plugin_costs_a_warning_that_names_it(
    cli: Cli, few: Path, tmp_path: Path, code: str, told: str
) -> None:
    env = install(tmp_path / "site", "imgrec_broken", code)
    done = cli("ingest", few, env=env)
    assert "imgrec_broken 2.5" in cli("--help", env=env).err or "imgrec_run_started" in code
    assert "12 new" in done.out
    warnings = [line for line in done.err.splitlines() if "imgrec_broken 2.5" in line]
    assert len(warnings) == 1
    assert told in warnings[0]


@pytest.mark.parametrize("metadata", [None, ""])
def test_a_distribution_without_metadata(cli: Cli, few: Path, tmp_path: Path, metadata: str | None) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    file = tmp_path / "site" / "imgrec_grey-2.5.dist-info" / "METADATA"
    file.unlink() if metadata is None else file.write_text(metadata)
    cli("ingest", few, "extractor=grey", env=env)
    assert "grey unknown" in " ".join(cli("plugins", env=env).out.split())


def test_a_distribution_whose_entry_points_are_unreadable(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_grey", GOOD)
    install(tmp_path / "site", "imgrec_broken", GOOD)
    (tmp_path / "site" / "imgrec_broken-2.5.dist-info" / "entry_points.txt").write_text("[imgrec]\nno sign\n")
    done = cli("ingest", few, "extractor=grey", env=env)
    assert "12 new" in done.out
    assert "plugins of imgrec_broken 2.5 left out: its entry points are unreadable" in done.err


def test_an_absent_library_inside_an_absent_package(cli: Cli, tmp_path: Path) -> None:
    code = GOOD.replace("    power", '    requires = {"absent.part": "pip install absent"}\n    power')
    assert "pip install absent" in cli("plugins", env=install(tmp_path / "site", "imgrec_grey", code)).out


def test_what_a_plugin_prints_is_no_result(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(
        tmp_path / "site",
        "imgrec_grey",
        "print('hello')\n" + GOOD.replace("    return [Grey]", "    print('hook')\n    return [Grey]"),
    )
    cli("ingest", few, env=env)
    found = cli("recommend", few / "china" / "china-0-0.jpg", "format=json", env=env)
    assert len(found.json()["matches"]) == 5
    assert "hello" in found.err
    assert "hook" in found.err


@pytest.mark.parametrize("name", ["mobilenet", "grey"])
def test_two_presets_of_one_name_are_an_error_that_names_both(cli: Cli, tmp_path: Path, name: str) -> None:
    hook = '\n@imgrec.hookimpl\ndef imgrec_conf_packages():\n    return ["imgrec_grey_conf"]\n'
    env = install(tmp_path / "site", "imgrec_grey", GOOD + hook)
    preset = tmp_path / "site" / "imgrec_grey_conf" / "extractor" / f"{name}.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text("defaults: [colour, _self_]\n")
    other = "imgrec" if name == "mobilenet" else "imgrec_grey 2.5"
    for words in (["--help"], ["ingest", "."]):
        done = cli(*words, env=env, code=2)
        assert f"two plugins claim extractor={name}: {other} and imgrec_grey 2.5; uninstall one" in done.err
        assert len(done.err.splitlines()) == 1


def test_two_plugins_that_claim_one_name_are_an_error_that_names_both(cli: Cli, tmp_path: Path) -> None:
    env = install(
        tmp_path / "site", "imgrec_mine", GOOD.replace("class Grey", "class Colour").replace("[Grey]", "[Colour]")
    )
    done = cli("plugins", env=env, code=2)
    assert "two plugins claim extractor=colour" in done.err
    assert "imgrec 0.1.0" in done.err
    assert "imgrec_mine 2.5" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_library_that_is_absent_is_one_line(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = GOOD.replace("    power", '    requires = {"absent_library": "pip install absent"}\n    power')
    env = install(tmp_path / "site", "imgrec_grey", code)
    assert (
        "extractor=grey needs absent_library: pip install absent"
        in cli("ingest", few, "extractor=grey", env=env, code=2).err
    )
    assert "pip install absent" in cli("plugins", env=env).out
    assert "12 new" in cli("ingest", few, env=env).out


def test_build_names_what_there_is() -> None:
    assert isinstance(imgrec.build("extractor", "colour", bins=2), imgrec.Extractor)
    assert isinstance(imgrec.build("store", "sqlite", path="x"), imgrec.Store)
    assert isinstance(imgrec.build("reducer", "pca"), imgrec.Reducer)
    with pytest.raises(UsageError, match=r"no extractor 'colr' \(did you mean colour\?\): available are"):
        imgrec.build("extractor", "colr")
    with pytest.raises(UsageError, match="no plugin kind 'painter'"):
        imgrec.build("painter", "colour")


def test_every_component_is_listed_with_its_distribution() -> None:
    assert set(registry.available("extractor")) == {"clip", "colour", "fusion", "hog", "phash", "timm"}
    assert set(registry.available("store")) == {"csv", "lance", "sqlite"}
    assert set(registry.available("reducer")) == {"lda", "logistic", "pca", "tsne", "umap"}
    assert "ingest" in registry.available("stage")
    assert {plugin.origin for kind in KINDS for plugin in registry.available(kind).values()} == {"imgrec 0.1.0"}


def test_a_missing_method_fails_when_the_component_is_built() -> None:
    class Half(imgrec.Extractor):
        """Forgot to extract."""

    with pytest.raises(TypeError, match="extract"):
        Half()  # type: ignore[abstract]


STAGE = """
from dataclasses import dataclass
import imgrec
@dataclass(kw_only=True)
class Where(imgrec.Stage):
    \"\"\"Tell where things lie.\"\"\"
    name: str = "x"
    kind: str = "y"
    data: dict[str, int] = imgrec.option({"a": 1})
    place: imgrec.Store = imgrec.component("store", choice="sqlite")
    other: imgrec.Store | None = imgrec.component("backup")
    def execute(self, run):
        with imgrec.open(self.place) as gallery:
            run.reads(len(gallery), gallery.fingerprint, *gallery.similarity.sources())
        run.write_json("results.json", {"data": dict(self.data)})
        other = self.other and self.other.location
        run.print(f"{self.name} {self.kind} {dict(self.data)} {self.place.location} {other}")
@imgrec.hookimpl
def imgrec_components():
    return [Where]
"""


def test_a_stage_may_call_its_components_and_options_as_it_likes(cli: Cli, few: Path, tmp_path: Path) -> None:
    env = install(tmp_path / "site", "imgrec_where", STAGE)
    cli("ingest", few, "extractor=colour", "store.path=here/g.sqlite")
    done = cli("where", "place.path=here/g.sqlite", "other=csv", "data.b=2", "name=n", "kind=k", env=env)
    assert done.out == "n k {'a': 1, 'b': 2} here/g.sqlite here/g-csv\n"
    assert cli("replay", done.runs()[-1], env=env).out.startswith("identical")
    assert "place=csv|lance|sqlite  (default sqlite)" in cli("where", "--help", env=env).out
    assert "{b: 2}" not in cli("where", "data={b: 2}", "place.path=here/g.sqlite", env=env).err


def test_a_stage_with_an_option_that_hydra_does_not_take_costs_a_warning(
    cli: Cli, few: Path, tmp_path: Path
) -> None:
    odd = STAGE.replace('    name: str = "x"', '    name: Literal["x"] = "x"').replace(
        "import imgrec", "from typing import Literal\nimport imgrec", 1
    )
    env = install(tmp_path / "site", "imgrec_where", odd)
    cli("ingest", few, "extractor=colour")
    swept = cli("-m", "recommend", min(few.rglob("*.jpg")), "k=1,2", env=env)
    assert "stage=where of imgrec_where 2.5 left out" in swept.err
    told = cli("where", env=env, code=2).err
    assert "stage=where of imgrec_where 2.5 cannot be run" in told
    assert len(told.splitlines()) == 1


def test_a_stage_may_hold_components_by_name_without_a_file_of_its_own(
    cli: Cli, few: Path, tmp_path: Path
) -> None:
    code = STAGE.replace(
        "    def execute",
        '    more: dict[str, imgrec.Extractor] = imgrec.components("extractor")\n    def execute',
        1,
    ).replace("{other}", "{other} {[each.options()['bins'] for each in self.more.values()]}")
    env = install(tmp_path / "site", "imgrec_where", code)
    cli("ingest", few, "extractor=colour")
    assert cli("where", env=env).out.endswith(" None []\n")
    words = ["more.a=colour", "more.a.bins=3", "more.b=colour"]
    assert cli("where", *words, env=env).out.endswith(" None [3, 5]\n")
    assert "more={}" in cli("where", "--help", env=env).out
    cli("-m", "recommend", min(few.rglob("*.jpg")), "k=1,2", env=env)


METRIC = """
from dataclasses import dataclass
import numpy as np, imgrec
@dataclass
class Odd(imgrec.Metric):
    \"\"\"Breaks its contract.\"\"\"
    def distances(self, query, vectors):
        return {returned}
@imgrec.hookimpl
def imgrec_components():
    return [Odd]
"""


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("np.full(len(vectors), np.nan)", "returned a distance of nan"),
        ("-np.ones(len(vectors))", "returned a distance of -1.0"),
        ("vectors", "returned (12, 125) for 12 vectors"),
        ("1 / 0", "failed: ZeroDivisionError"),
    ],
)
def test_a_metric_that_breaks_its_contract_is_named(
    cli: Cli, few: Path, tmp_path: Path, returned: str, told: str
) -> None:
    env = install(tmp_path / "site", "imgrec_odd", METRIC.format(returned=returned))
    cli("ingest", few, "extractor=colour")
    for words in (["recommend", min(few.rglob("*.jpg"))], ["evaluate"]):
        failed = cli(*words, "metric=odd", env=env, code=1).err
        assert f"metric odd of imgrec_odd 2.5 {told}" in failed
        assert len([line for line in failed.splitlines() if "imgrec: " in line]) == 1


INDEX = """
from dataclasses import dataclass
import numpy as np, imgrec
@dataclass
class Odd(imgrec.Index):
    \"\"\"Breaks its contract.\"\"\"
    recall: float = 0.5
    exact_up_to: int = 0
    def build(self, blocks, count, sample, folder):
        {build}
    def open(self, folder):
        return {opened}
    def candidates(self, queries, count, effort, usable):
        return {named}
@imgrec.hookimpl
def imgrec_components():
    return [Odd]
"""


@pytest.mark.parametrize(
    ("build", "opened", "named", "told"),
    [
        ("pass", "self", "[]", "returned list for 12 queries, not a list of as many"),
        ("pass", "self", "[np.array([0, -1])] * len(queries)", "returned rows -1 to 0 of 12"),
        ("pass", "self", "[np.array([0, 12])] * len(queries)", "returned rows 0 to 12 of 12"),
        ("pass", "self", "[np.array([0.5])] * len(queries)", "returned float64 (1,) of a query"),
        ("pass", "self", "1 / 0", "failed: ZeroDivisionError"),
        ("pass", "None", "[]", "failed: TypeError: open returns the index itself"),
        ("pass", "1 / 0", "[]", "failed: ZeroDivisionError"),
        ("raise SystemExit(3)", "self", "[]", "failed: SystemExit: 3"),
    ],
)
def test_an_index_that_breaks_its_contract_is_named(
    cli: Cli, few: Path, tmp_path: Path, build: str, opened: str, named: str, told: str
) -> None:
    env = install(tmp_path / "site", "imgrec_odd", INDEX.format(build=build, opened=opened, named=named))
    cli("ingest", few, "extractor=colour")
    for _ in range(2):
        failed = cli("recommend", min(few.rglob("*.jpg")), "index=odd", env=env, code=1).err.splitlines()
        assert f"index odd of imgrec_odd 2.5 {told}" in failed[-1]


def test_an_index_that_names_too_few_leaves_it_to_the_exact_search(cli: Cli, few: Path, tmp_path: Path) -> None:
    code = INDEX.format(build="pass", opened="self", named="[np.array([0])] * len(queries)")
    env = install(tmp_path / "site", "imgrec_odd", code)
    cli("ingest", few, "extractor=colour")
    asked = ("recommend", min(few.rglob("*.jpg")), "format=json")
    assert cli(*asked, "index=odd", env=env).json()["matches"] == cli(*asked).json()["matches"]
    (tmp_path / "outputs" / "gallery.sqlite-index").mkdir(exist_ok=True)
    for file in (tmp_path / "outputs" / "gallery.sqlite-index").glob("indexes"):
        shutil.rmtree(file)
    (tmp_path / "outputs" / "gallery.sqlite-index" / "indexes").write_text("in the way")
    assert "for this run" in cli(*asked, "index=odd", env=env).err
