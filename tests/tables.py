"""The generated parts of the READMEs, from the code itself: `make format` writes them, `make check` compares.

A link leads on from the folder of the README that shows it.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import imgrec
from imgrec import hookspecs, presets, registry, testing
from imgrec.kinds import KINDS, Stage
from imgrec.options import component_fields, option_rows

ROOT = Path(__file__).parent.parent


def summary(cls: object) -> str:
    """The first paragraph of a docstring, as a line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def stage_table() -> str:
    """The stages and their options."""
    rows = []
    for name, cls in registry.classes(Stage).items():
        chosen = presets.default_choices(name)
        parts = ", ".join(f"`{part}={chosen[part] or ''}`" for part in component_fields(cls))
        options = ", ".join(f"`{row.name}={row.default}`" for row in option_rows(cls) if row.name not in COMMON)
        rows.append([f"**{name}**", summary(cls), options, parts])
    return table(["stage", "what it does", "options", "components"], rows)


COMMON = ("seed", "debug")


def api_table() -> str:
    """The operations of the page's API."""
    from imgrec.serving.api import OPERATIONS

    rows = []
    for each in OPERATIONS:
        takes = f", a body of {each.takes}" if each.takes else ""
        summary = (each.answer.__doc__ or "").split("\n")[0].removesuffix(".")
        rows.append([f"`{each.method} {each.path}`", summary + takes, each.gives])
    return table(["operation", "what it does", "gives"], rows)


def kind_table() -> str:
    """The kinds of plugins: what chooses one, its contract, and a whole distribution to read."""
    rows = []
    for kind, base in KINDS.items():
        chosen = ", ".join(f"`{group.name}=`" for group in base.groups)
        example = f"[`{kind}`](../tests/thirdparty/{kind})" if (THIRDPARTY / kind).is_dir() else ""
        contract = f"[`kinds/{kind}.py`](../imgrec/kinds/{kind}.py)"
        rows.append([kind, summary(base), chosen or CHOSEN[kind], contract, example])
    return table(["kind", "what it is", "chosen by", "contract", "example"], rows)


THIRDPARTY = ROOT / "tests" / "thirdparty"

CHOSEN = {
    "metric": "`metric=`",
    "source": "what it recognises",
    "decoder": "what it recognises",
    "stage": "the first word, or `+stage=`",
}
"""How a component is chosen of a kind that fills no config group."""


def plugin_table() -> str:
    """Every built-in plugin, and the file that it is."""
    rows = [
        [
            f"`{kind}={name}`" if base.groups else f"{kind} `{name}`",
            summary(plugin.cls),
            _file_of(plugin.cls),
            " ".join(re.sub(r"imgrec\[(.+)\]", r"extra `\1`", needed) for needed in plugin.cls.requires.values()),
        ]
        for kind, base in KINDS.items()
        for name, plugin in registry.available(kind).items()
        if kind != Stage.kind  # they have a table of their own
        and _path_of(plugin.cls).is_relative_to(ROOT)  # others may be installed beside them
    ]
    return table(["choice", "what it is", "file", "needs"], rows)


def _path_of(cls: type) -> Path:
    return Path(str(sys.modules[cls.__module__].__file__))


def _file_of(cls: type) -> str:
    """A link to where a class is, from `plugins/`."""
    file = _path_of(cls).relative_to(ROOT)
    inside = file.is_relative_to("plugins")
    shown = file.relative_to("plugins") if inside else file
    return f"[`{shown}`]({shown if inside else Path('..') / shown})"


def option_table(kind: str, name: str) -> str:
    """The options of a plugin."""
    rows = option_rows(registry.available(kind)[name].cls)
    return table(
        ["option", "default", "meaning"], [[f"`{kind}.{r.name}`", f"`{r.default}`", r.help] for r in rows]
    )


def python_table() -> str:
    """All names of `imgrec`, with the first sentence of what has a docstring."""
    named = {name: getattr(imgrec, name) for name in sorted(imgrec.__all__, key=str.lower)}
    told = {name: summary(value) for name, value in named.items() if callable(value) and _is_ours(value)}
    rows = [[f"`imgrec.{name}`", text] for name, text in told.items()]
    types = ", ".join(f"`imgrec.{name}`" for name in named if name not in told)
    return f"{table(['name', 'what it is'], rows)}\n\nBesides, types and a marker: {types}."


def _is_ours(value: object) -> bool:
    return getattr(value, "__module__", "").startswith("imgrec")


def hook_table() -> str:
    """The hooks."""
    hooks = {name: each for name, each in vars(hookspecs).items() if name.startswith("imgrec_")}
    return table(
        ["hook", "meaning"],
        [[f"`{name}{inspect.signature(each)}`".replace("'", ""), summary(each)] for name, each in hooks.items()],
    )


def check_table() -> str:
    """What `imgrec.testing` holds plugins to."""
    rows = [[kind, each.name.replace("_", " "), each.contract] for kind in KINDS for each in testing.checks(kind)]
    return table(["kind", "check", "contract"], rows)


def preset_table() -> str:
    """The YAML presets of extractors, with the comment that heads each file."""
    rows = []
    for file in sorted((Path(presets.conf_folders()[0].path) / "extractor").glob("*.yaml")):
        sets = presets.settings("extractor", file.stem)
        weights = ", ".join(f"{name}: {weight}" for name, weight in sets.get("weights", {}).items())
        of = f"`{sets['model']}`" if "model" in sets else f"fusion: {weights}" if weights else ""
        rows.append([f"`extractor={file.stem}`", of, presets.comment(file)])
    return table(["preset", "timm model, or parts of a fusion", ""], rows)


def module_table() -> str:
    """The core's packages and modules, layers as import-linter has them, and what each says it is."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    core = ROOT / "imgrec"
    rows = []
    for layer in layers:
        for name in re.split(" [|:] ", layer):
            for file in _modules(core / name):
                shown = file.relative_to(core)
                if file.name == "__init__.py":
                    rows.append([f"[**`{shown.parent}/`**]({shown.parent})", f"**{_says(file)}**"])
                else:
                    rows.append([f"[`{shown}`]({shown})", _says(file)])
    return table(["package or module", ""], rows)


def _modules(path: Path) -> Iterator[Path]:
    """A module's file; or a package's, its own first, then those inside."""
    if not path.is_dir():
        yield path.with_suffix(".py")
        return
    yield path / "__init__.py"
    yield from sorted(file for file in path.glob("*.py") if file.name != "__init__.py")


def _says(file: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]


def speed_table() -> str:
    """What was measured that a newcomer asks for first, beside what one would write instead."""
    rows = []
    for told, part, ours, theirs, instead in SPEEDS:
        figures = _measured(part)
        rows.append([told, figures[ours], f"{figures[theirs]}, {instead}" if theirs else ""])
    return table(["what", "imgrec", "instead"], rows)


SPEEDS = (
    ("ingest by MobileNet v2", "ingest", "imgrec, fast", "plain timm loop", "a plain timm loop"),
    ("5 nearest of 214,005 vectors, exactly", "search", "imgrec, proved scan", "usearch exact", "usearch"),
    ("t-SNE of 10,000 vectors", "maps", "imgrec, 10,000 vectors", "scikit-learn, 10,000 vectors", "scikit-learn"),
    ("`recommend` from the shell, 214,005 images", "answer", "recommend, query inside", "", ""),
)
"""What it is called, the part of the benchmarks, and whose figures: imgrec's, another's, who that is."""


def quality_table() -> str:
    """How many of the five nearest photographs of clothes are of the query's kind, by extractor."""
    figures = _measured("quality")
    return table(
        ["extractor", "of the five nearest clothes, those of the query's kind"],
        [[f"`{name}`{metric}", f"{float(figures[what]):.0%}"] for name, metric, what in QUALITIES],
    )


def benchmark(part: str) -> str:
    """What one part of the benchmarks measured, as it stands in their own README."""
    pages = (ROOT / "tests" / "benchmarks" / "results.md").read_text().split("## ")
    return next((page.partition("\n\n")[2].strip() for page in pages if page.startswith(f"{part}\n")), "")


def copies_table() -> str:
    """How many altered copies are found as duplicates, by extractor and kind, and how many of the found are."""
    figures = _measured("copies")
    ways = dict.fromkeys(what.partition(":")[0] for what in figures)
    kinds = list(dict.fromkeys(what.partition(": recall of ")[2] for what in figures if ": recall of " in what))

    def share(way: str, what: str) -> str:
        return f"{float(figures[f'{way}: {what}']):.0%}"

    return table(
        ["extractor, metric", "distance", "right", "found", *kinds],
        [
            [
                f"`{way}`",
                f"{float(figures[f'{way}: distance']):.3g}",
                *(share(way, what) for what in ("precision", "recall", *(f"recall of {kind}" for kind in kinds))),
            ]
            for way in ways
        ],
    )


def strangers_table() -> str:
    """What share of clothes, and of pictures of other things, `threshold=auto` refuses among clothes."""
    figures = _measured("strangers")
    ways = dict.fromkeys(what.partition(", of ")[0] for what in figures if ", of " in what)
    kinds = dict.fromkeys(what.partition(", of ")[2] for what in figures if ", of " in what)
    return table(
        ["compared by", *(f"of {STRANGERS.get(kind, kind)}" for kind in kinds)],
        [[way, *(f"{float(figures[f'{way}, of {kind}']):.1%}" for kind in kinds)] for way in ways],
    )


STRANGERS = {"clothes": "other clothes", "tiles": "two photographs' tiles", "odd": "`odd/`"}
"""What kinds of pictures are called in that table."""


QUALITIES = (
    ("colour", "", "`colour`, euclidean"),
    ("handcrafted", ", the default", "`handcrafted`"),
    ("mobilenetv2", " by cosine distance", "`mobilenetv2`, 1,280 values, cosine"),
)


def _measured(part: str) -> dict[str, str]:
    """The figures of a part of the benchmarks, as they are told."""
    from benchmarks.report import Figure

    found = json.loads((ROOT / "tests" / "benchmarks" / "results.json").read_text())
    return {each["what"]: str(Figure(**each)) for each in found[part]["figures"]}
