"""Commands that install what is missing, in the way that the distribution concerned was installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

_WITH_EXTRAS = re.compile(r"(?P<name>[\w.-]+)\[(?P<extras>[\w.,-]+)\]")


def install_command(needed: str) -> str:
    """The command that installs a library, or an extra of an installed distribution.

    An extra is added from where its distribution came from, by its `direct_url.json` (PEP 610): a folder, a file,
    a repository, another address, or else an index. If that is not known or no longer there, the libraries of the
    extra are installed, and the text says so: on an index the name alone could be another project's.

    Args:
        needed: a requirement, such as `faiss-cpu>=1.8` or `imgrec[timm]`. A whole command, which has spaces, is
            returned unchanged.
    """
    if " " in needed:
        return needed
    parts = _WITH_EXTRAS.fullmatch(needed)
    try:
        source = importlib.metadata.distribution(parts["name"]) if parts else None
    except importlib.metadata.PackageNotFoundError:
        source = None
    if parts is None or source is None:
        return f"{pip_install()} {shlex.quote(needed)}"
    if target := _target(source, parts["name"], parts["extras"]):
        return f"{pip_install()} {target}"
    libraries = " ".join(map(shlex.quote, _libraries(source, parts["extras"].split(","))))
    return f"{pip_install()} {libraries} (it is not known where {parts['name']} was installed from)"


def pip_install() -> str:
    """The command that installs into this Python, `pip install` if that is the one, from whatever shell."""
    if importlib.util.find_spec("pip") is None:  # as in environments made by uv
        is_active = os.environ.get("VIRTUAL_ENV") == sys.prefix
        return "uv pip install" if is_active else f"uv pip install --python {shlex.quote(sys.executable)}"
    is_first = Path(shutil.which("pip") or "").parent == Path(sys.executable).parent
    return "pip install" if is_first else f"{shlex.quote(sys.executable)} -m pip install"


def _target(source: importlib.metadata.Distribution, name: str, extras: str) -> str | None:
    """What pip is given to add extras to a distribution from where it came from; None if unknown or gone."""
    recorded = source.read_text("direct_url.json")
    if recorded is None:  # as PEP 610 has it for an index; other installers may not keep to it
        installer = (source.read_text("INSTALLER") or "").strip()
        return shlex.quote(f"{name}[{extras}]") if installer in ("pip", "uv") else None
    try:
        origin = json.loads(recorded)
        url, repository, folder = origin["url"], origin.get("vcs_info"), origin.get("subdirectory")
        if url.startswith("file:") and not repository and not folder:
            return _local(url, extras, is_editable=origin.get("dir_info", {}).get("editable", False))
        if repository:
            url = f"{repository['vcs']}+{url}@{repository['commit_id']}"
        from urllib.parse import quote

        url = quote(url, safe="%/:=&?~#+!$,;'@()*[]")  # pip records it as it was given, and takes no spaces in it
        return shlex.quote(f"{name}[{extras}] @ {url}{f'#subdirectory={folder}' if folder else ''}")
    except (ValueError, KeyError, TypeError, AttributeError):  # the file is damaged
        return None


def _local(url: str, extras: str, is_editable: bool) -> str | None:
    """`_target` of a folder or file on this machine."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    path = url2pathname(urlsplit(url).path)
    return ("-e " if is_editable else "") + shlex.quote(f"{path}[{extras}]") if os.path.exists(path) else None


def _libraries(source: importlib.metadata.Distribution, extras: list[str]) -> list[str]:
    """The requirements that extras of a distribution add, sorted."""
    found = set()
    for line in source.requires or ():
        requirement, _, marker = line.partition(";")
        if not set(extras).isdisjoint(re.findall(r"extra\s*==\s*['\"]([^'\"]+)", marker)):
            found.add(requirement.strip())
    return sorted(found)
