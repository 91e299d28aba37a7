"""The generated parts of the README, from the code itself: `make format` writes them, `make check` compares."""

from __future__ import annotations

import inspect

from imgrec import hookspecs, presets, registry, testing
from imgrec.kinds import KINDS, Stage
from imgrec.options import component_fields, option_rows


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


def plugin_table() -> str:
    """Every built-in plugin."""
    rows = [
        [
            f"`{kind}={name}`" if base.groups else f"{kind} `{name}`",
            summary(plugin.cls),
            " ".join(plugin.cls.requires.values()).replace("pip install ", ""),
        ]
        for kind, base in KINDS.items()
        for name, plugin in registry.available(kind).items()
        if kind != Stage.kind  # they have a table of their own
    ]
    return table(["choice", "what it is", "needs"], rows)


def option_table(kind: str, name: str) -> str:
    """The options of a plugin."""
    rows = option_rows(registry.available(kind)[name].cls)
    return table(
        ["option", "default", "meaning"], [[f"`{kind}.{r.name}`", f"`{r.default}`", r.help] for r in rows]
    )


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
    from pathlib import Path

    rows = []
    for file in sorted((Path(presets.conf_folders()[0].path) / "extractor").glob("*.yaml")):
        sets = presets.settings("extractor", file.stem)
        weights = ", ".join(f"{name}: {weight}" for name, weight in sets.get("weights", {}).items())
        of = f"`{sets['model']}`" if "model" in sets else f"fusion: {weights}" if weights else ""
        rows.append([f"`extractor={file.stem}`", of, presets.comment(file)])
    return table(["preset", "timm model, or parts of a fusion", ""], rows)


def layer_table() -> str:
    """The modules of the core from the top layer down, as import-linter has them, and what each says it is."""
    import ast
    import tomllib
    from pathlib import Path

    root = Path(__file__).parent.parent
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = []
    for layer in next(each["layers"] for each in contracts if each["type"] == "layers"):
        for name in layer.split(" | "):
            file = root / "imgrec" / f"{name}.py"
            file = file if file.exists() else root / "imgrec" / name / "__init__.py"
            doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            rows.append([f"`{name}`", doc.split("\n")[0]])
    return table(["module", ""], rows)
