"""Maps as pages: one HTML file each, with data, styles and scripts inside, which asks nothing of any network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path

from imgrec import images
from imgrec.drawing.map import Map
from imgrec.drawing.map_file import packed, points_of
from imgrec.drawing.pictures import thumbnail
from imgrec.kinds import Progress, no_progress

PAGE = Path(__file__).parent.parent / "page"
"""The folder of scripts and styles."""

SIDE, QUALITY = 96, 70
"""Of a thumbnail: pixels, and WebP's quality."""

MOST_BYTES = 8_000_000
"""Of all thumbnails in a page: those of about 2,500 photographs."""


def map_page(
    drawn: Map,
    *,
    title: str | None = None,
    thumbnails: int | None = None,
    most_bytes: int = MOST_BYTES,
    progress: Progress = no_progress,
) -> tuple[str, int]:
    """A map as the text of an HTML file, and how many images have a thumbnail in it.

    The same map and pictures give the same text.

    Args:
        drawn: the map.
        title: in place of the map's own; empty for none.
        thumbnails: of how many images, chosen at random; None: of all.
        most_bytes: of all thumbnails; images beyond that have none.
        progress: makes the progress bar of the thumbnails.
    """
    points = points_of(drawn)
    paths = [drawn.paths[image] for image in points.rows.tolist()]
    title = f"{len(paths):,} images: {drawn.title}".rstrip(": ") if title is None else title
    script, style = bundled(PAGE / "map" / "file.js"), _text("map.css") + _text("file.css")
    template = string.Template(_text("file.html"))
    pictures = list(_thumbnails(paths[:thumbnails], most_bytes, progress))
    text = template.substitute(
        title=html.escape(title.encode("utf-8", "replace").decode()),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        about=json.dumps(points.about).replace("<", "\\u003c"),
        positions=_base64(packed(points.positions)),
        labels=_base64(packed(points.labels)),
        paths=_base64(gzip.compress(json.dumps(paths).encode(), mtime=0)),
        thumbnails="\n".join(pictures),
    )
    return text, sum(map(bool, pictures))


def save_page(
    drawn: Map,
    file: Path,
    *,
    title: str | None = None,
    thumbnails: int | None = None,
    progress: Progress = no_progress,
) -> int:
    """Write a map as an HTML file, see `map_page`; returns how many images have a thumbnail in it."""
    text, shown = map_page(drawn, title=title, thumbnails=thumbnails, progress=progress)
    file.write_text(text, encoding="utf-8", newline="\n")
    return shown


def _thumbnails(paths: list[str], most_bytes: int, progress: Progress) -> Iterator[str]:
    """Of each image a WebP in base64, or nothing where there is none, until there is no room for more."""
    if not paths:
        return
    with progress("thumbnails", len(paths)) as advance:
        for picture in images.each(_thumbnail, paths):
            most_bytes -= len(picture)
            if most_bytes < 0:
                return
            yield picture
            advance(1)


def _thumbnail(path: str) -> str:
    picture = thumbnail(path, SIDE)
    if picture is None:
        return ""
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=QUALITY)
    return _base64(data.getvalue())


def bundled(entry: Path) -> str:
    """A module and all that it imports as one script, each in a scope of its own: browsers load none from a file.

    Understood are `import { a, b } from "./x.js";` and `export` before a function, class or const.
    """
    parts: dict[Path, str] = {}

    def add(module: Path) -> None:
        text = module.read_text(encoding="utf-8")
        for name in re.findall(r'^import \{[^}]+\} from "\./([\w.]+)";$', text, re.MULTILINE):
            if module.with_name(name) not in parts:
                add(module.with_name(name))
        text = re.sub(
            r'^import (\{[^}]+\}) from "\./([\w.]+)\.js";$', r"const \1 = module_\2;", text, flags=re.MULTILINE
        )
        exported = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", text, re.MULTILINE)
        text = re.sub(r"^export ", "", text, flags=re.MULTILINE)
        own = f"const module_{module.stem} = (() => {{\n{text}return {{ {', '.join(exported)} }};\n}})();\n"
        parts[module] = own if module != entry else text

    add(entry)
    return "".join(parts.values())


def _text(name: str) -> str:
    return (PAGE / "map" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
