from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from imgrec.cli import arguments
from imgrec.errors import UsageError

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


def as_hydra_reads(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@settings(max_examples=500)
@given(TEXT)
def test_quoting_brings_any_text_through_hydra(text: str) -> None:
    assert as_hydra_reads(f"query={arguments.quoted(text)}") == text


@settings(max_examples=500)
@given(TEXT | st.text(alphabet="\\${}'\"a", max_size=12))
def test_an_existing_files_name_comes_through_omegaconf_too(name: str) -> None:
    """`${` in a name is no interpolation."""
    value = as_hydra_reads(f"query={arguments._quoted_path(name)}")
    assert OmegaConf.create({"query": value}).query == name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("+stage=recommend query=a.jpg", ["+stage=recommend", "query='a.jpg'"]),
        ("stage=recommend query=a.jpg", ["+stage=recommend", "query='a.jpg'"]),
        ("recommend a.jpg k=10", ["+stage=recommend", "query='a.jpg'", "k=10"]),
        ("recommend a.jpg b.jpg k=10", ["+stage=recommend", "query=['a.jpg','b.jpg']", "k=10"]),
        ("recommend query=[a.jpg,b.jpg]", ["+stage=recommend", "query=['a.jpg','b.jpg']"]),
        (
            "+experiment=image_recommender +stage=recommend",
            ["+stage=recommend", "+experiment=image_recommender/recommend"],
        ),
        ("ingest a b", ["+stage=ingest", "source=['a','b']"]),
        ("ingest [a,b]", ["+stage=ingest", "source=['a','b']"]),
        ("ingest source=[a,b]", ["+stage=ingest", "source=['a','b']"]),
        ("ingest a default_extractor=timm", ["+stage=ingest", "source='a'", "extractor@default_extractor=timm"]),
        ("ingest extractor.checkpoint=a,b.pt", ["+stage=ingest", "extractor.checkpoint='a,b.pt'"]),
        ("ingest extractor.checkpoint=null", ["+stage=ingest", "extractor.checkpoint=null"]),
        ("visualise highlight=*/hat/*", ["+stage=visualise", "highlight='*/hat/*'"]),
        ("-m recommend query=a,b k=1,2", ["+stage=recommend", "query='a','b'", "k=1,2", "-m"]),
        ("recommend query='a'", ["+stage=recommend", "query='a'"]),
        ("recommend query=${oc.env:X}", ["+stage=recommend", "query=${oc.env:X}"]),
        ("recommend a experiment=glob(*)", ["+stage=recommend", "query='a'", "+experiment=glob(*)"]),
        ("recommend a experiment=mine/x", ["+stage=recommend", "query='a'", "+experiment=mine/x"]),
        (
            "recommend a experiment=image_recommender",
            ["+stage=recommend", "query='a'", "+experiment=image_recommender/recommend"],
        ),
        ("--config-name mine recommend a", ["+stage=recommend", "query='a'", "--config-name", "mine"]),
        ("recommend ~extractor", ["+stage=recommend", "~extractor"]),
    ],
)
def test_spellings(words: str, expected: list[str]) -> None:
    assert arguments.read(words.split()).hydra == expected


def test_a_file_with_an_equals_sign_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.jpg", "k=3"):
        (tmp_path / name).touch()
    assert arguments.read(["recommend", "a=b.jpg", "k=3"]).hydra == ["+stage=recommend", "query='a=b.jpg'", "k=3"]


def test_an_existing_file_is_one_value_in_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b.jpg").touch()
    assert arguments.path_value("a,b.jpg", is_multirun=True) == "'a,b.jpg'"
    assert arguments.path_value(f"c{os.extsep}jpg,d", is_multirun=True) == "'c.jpg','d'"


@pytest.mark.parametrize("words", ["frobnicate", "info a.jpg", "replay a b"])
def test_what_is_not_understood(words: str) -> None:
    with pytest.raises(UsageError):
        arguments.read(words.split())


@pytest.mark.parametrize("words", ["--help", "-h", "--version", "--info", "--cfg job", ""])
def test_only_a_run_needs_a_stage(words: str) -> None:
    assert arguments.read(words.split()).needs_stage == (words == "")


# --- Hydra's flags ------------------------------------------------------------------------------------------

LEFT_OUT = {"--shell-completion", "-sc", "--experimental-rerun"}
"""The first is imgrec's own, the second loads a pickle."""


def test_flags_are_those_of_hydra() -> None:
    for action in get_args_parser()._actions:
        for flag in set(action.option_strings) - LEFT_OUT:
            assert flag in arguments.FLAGS
            assert (flag in arguments.FLAGS_WITH_VALUE) == (action.nargs != 0), flag
            assert set(arguments.FLAGS_WITH_VALUE.get(flag, ())) == set(action.choices or ()), flag


@pytest.mark.parametrize("form", ["{flag} {value}", "{flag}={value}"])
@pytest.mark.parametrize("flag", sorted(set(arguments.FLAGS_WITH_VALUE) - set(arguments.CONFIG_DIR)))
def test_a_flag_takes_its_value_wherever_it_stands(flag: str, form: str) -> None:
    for value in arguments.FLAGS_WITH_VALUE[flag] or ["something"]:
        words = form.format(flag=flag, value=value).split()
        for line in (
            ["info", *words, "failures=3"],
            [*words, "info", "failures=3"],
            ["info", "failures=3", *words],
        ):
            read = arguments.read(line)
            assert (read.stage, read.hydra) == ("info", ["+stage=info", "failures=3", flag, value])
            assert get_args_parser().parse_args(read.hydra).overrides == read.hydra[:2]


def test_info_needs_no_value() -> None:
    assert arguments.read(["--info", "recommend", "a.jpg"]).hydra == [
        "+stage=recommend",
        "query='a.jpg'",
        "--info",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("info --cfg", "--cfg wants one of job, hydra, all"),
        ("info -c job2", "-c wants one of job, hydra, all: -c job2"),
        ("info --info=nothing", "--info wants one of all, config"),
        ("info --package", "--package wants a value"),
        ("info -m --cfg job", "-m and --cfg are two things to do: leave one out"),
        ("info --run --multirun", "--run and --multirun are two things to do"),
        ("info --info -c job", "--info and -c are two things to do"),
        ("info --resolve", "--resolve is of --cfg"),
        ("info --experimental-rerun x", "there is no flag --experimental-rerun"),
        ("-m evaluate k=glob(*)", "k has no list of choices to take from, name them: k=a,b"),
        ("-m evaluate metric=glob(x*)", r"metric=glob\(x\*\) is none of chi2, cosine"),
    ],
)
def test_flags_and_globs_that_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        arguments.read(words.split())


def test_both_words_for_a_sweep_are_one() -> None:
    for words in (["-m"], ["--multirun"], ["hydra.mode=MULTIRUN"]):
        assert arguments.read(["evaluate", "a,b", *words]).is_multirun
        assert "source='a','b'" in arguments.read(["evaluate", "a,b", *words]).hydra
