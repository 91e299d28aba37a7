"""Completion, in real shells."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import Cli
from imgrec.cli import completion

BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ ", "PROMPT": "$ "}
INSTALL = 'eval "$(imgrec -sc install={})"'


def complete(line: str, cwd: Path) -> list[str]:
    """What bash's own function leaves in COMPREPLY for a line with the cursor at its end."""
    script = f"""
        {INSTALL.format("bash")}
        [[ $(complete -p imgrec) == *_imgrec_complete* ]] || exit 9
        COMP_LINE={line!r}
        COMP_POINT=${{#COMP_LINE}}
        _imgrec_complete imgrec
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=cwd, env=ENV, check=True
    )
    assert done.stderr == ""
    return [each for each in done.stdout.split("\n") if each]


def typed(shell: list[str], keys: str, wanted: str, cwd: Path) -> str:
    """What a terminal shows after keys are typed into an interactive shell, up to what is wanted."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(shell[0], shell, ENV)
    shown = ""
    os.write(terminal, f"{INSTALL.format(Path(shell[0]).name)}; echo rea''dy\n".encode())
    try:
        for awaited, then in (("ready\r\n", keys), (wanted, "")):
            end = time.monotonic() + 60
            while awaited not in shown.partition("ready\r\n")[2] + ("" if then == "" else shown):
                assert time.monotonic() < end, f"not shown: {awaited!r} in {shown!r}"
                if select.select([terminal], [], [], 1)[0]:
                    shown += os.read(terminal, 4096).decode(errors="replace")
            os.write(terminal, then.encode())
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return shown.partition("ready\r\n")[2]


def test_a_tab_in_bash(tmp_path: Path) -> None:
    assert "metric=euclidean " in typed(
        ["bash", "--norc", "-i"], "imgrec recommend q.png met\teuc\t", "metric=euclidean ", tmp_path
    )


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh, which is not here")
def test_a_tab_in_zsh(tmp_path: Path) -> None:
    assert "metric=euclidean " in typed(
        ["zsh", "-f", "-i"], "imgrec recommend q.png met\teuc\t", "metric=euclidean ", tmp_path
    )


def test_lines_in_bash(tmp_path: Path) -> None:
    (tmp_path / "query.jpg").touch()
    (tmp_path / "quick").mkdir()
    # Readline keeps what stands before a `=`.
    assert complete("imgrec rec", tmp_path) == ["recommend "]
    assert complete("imgrec +stage=vis", tmp_path) == ["visualise "]
    assert complete("imgrec recommend q.png met", tmp_path) == ["metric="]
    assert complete("imgrec recommend q.png metric=co", tmp_path) == ["cosine "]
    assert complete("imgrec recommend qu", tmp_path) == [
        "query=",
        "query_bytes=",
        "query_seconds=",
        "query.jpg ",
        "quick/",
    ]
    assert complete("imgrec recommend query=qu", tmp_path) == []  # a file, which bash completes itself


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "",
            [
                *(
                    "compare ",
                    "default ",
                    "duplicates ",
                    "evaluate ",
                    "explore ",
                    "export ",
                    "failures ",
                    "forget ",
                    "import ",
                    "info ",
                    "ingest ",
                    "new_plugin ",
                    "plan ",
                    "plugins ",
                    "recommend ",
                ),
                *("replay ", "restore ", "verify ", "visualise ", "+stage="),
            ],
        ),
        ("+stage=in", ["+stage=info ", "+stage=ingest "]),
        ("stage=rec", ["stage=recommend "]),
        ("+stage=recommend metric=ma", ["metric=manhattan "]),
        ("ingest photos extractor=mobilenetv", ["extractor=mobilenetv1 ", "extractor=mobilenetv2 "]),
        ("ingest photos extractor.we", ["extractor.weights="]),  # of the default
        ("ingest photos extractor=colour extractor.bi", ["extractor.bins="]),
        ("ingest +experiment=ima", ["+experiment=image_recommender "]),
        ("info +experiment=ima", []),
        ("ingest photos extractor=timm extractor.in", ["extractor.input_size=", "extractor.interpolation="]),
        ("ingest photos extractor=resnet18 extractor.poo", ["extractor.pooling="]),  # of a preset
        ("ingest photos extractor=timm extractor.resize=", ["extractor.resize=exact ", "extractor.resize=fast "]),
        ("ingest photos extractor=colour extractor.joint=f", ["extractor.joint=false "]),
        ("ingest photos backup=", ["backup=csv ", "backup=lance ", "backup=none ", "backup=sqlite "]),
        ("ingest photos back", ["backup=", "backup."]),
        ("-m recommend q.png metric=cosine,eu", ["metric=cosine,euclidean"]),
        ("-m recommend q.png metric=cosine,cos", []),
        ("recommend --multi", ["--multirun "]),
        ("recommend q.png --config-dir m", []),
        ("visualise reducer=umap reducer.n_n", ["reducer.n_neighbors="]),
        ("visualise 'highlight=a b' sam", ["sample="]),
        ("visualise 'highlight=a b", []),
        ("recommend q.png nothing=", []),
        ("info && imgrec recommend q.png met", ["metric="]),
        ("info; imgrec recommend q.png met", ["metric="]),
        ("recommend q.png store.nothing=", []),
    ],
)
def test_candidates(line: str, expected: list[str]) -> None:
    environment = {"COMP_LINE": f"imgrec {line}", "COMP_POINT": str(len(f"imgrec {line}"))}
    assert completion.answer(["query=zsh"], environment).splitlines() == expected


def test_what_is_behind_the_cursor_does_not_count() -> None:
    environment = {"COMP_LINE": "imgrec rec q.png", "COMP_POINT": "10"}
    assert completion.answer(["query=bash"], environment) == "recommend \n"


def test_a_preset_that_begins_with_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "extractor").mkdir()
    (tmp_path / "extractor" / "mobilenet.yaml").write_text("defaults: [mobilenet, _self_]\n")
    before = ["--config-dir", str(tmp_path), "ingest", "photos", "extractor=mobilenet"]
    assert completion.candidates(before, "extractor.n") == []


def test_the_users_own_presets_and_experiments(tmp_path: Path) -> None:
    for group, name in (("extractor", "fine"), ("experiment", "my_run")):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{name}.yaml").write_text("defaults: [colour, _self_]\n")
    before = ["--config-dir", str(tmp_path), "ingest", "photos"]
    assert completion.candidates(before, "extractor=f") == ["extractor=fine ", "extractor=fusion "]
    assert completion.candidates([*before, "extractor=fine"], "extractor.bi") == ["extractor.bins="]
    assert completion.candidates(before, "exp") == ["experiment="]
    assert completion.candidates(before, "+experiment=") == [
        "+experiment=image_recommender ",
        "+experiment=my_run ",
    ]


@pytest.mark.parametrize("words", [["-sc"], ["-sc", "install=fish"], ["--shell-completion", "bash"]])
def test_other_shells_are_told(cli: Cli, words: list[str]) -> None:
    assert 'completion is for bash and zsh: eval "$(imgrec -sc install=bash)"' in cli(*words, code=2).err
