"""The command line: `python -m imgrec`, `imgrec`. Arguments in, exit code out."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import imgrec
from imgrec import arguments, completion, help, presets  # noqa: A004 - it is what --help prints
from imgrec.errors import ImgrecError, UsageError

log = logging.getLogger(__name__)

_command: list[str] = []
"""What was typed."""

HELP = frozenset(("--help", "-h"))

_errors: list[BaseException] = []
"""What the jobs of this process raised: Hydra would print more than a line of it."""


def program() -> int:
    """`main`, in a process that it has for itself: no garbage is looked for while it starts and ends.

    Both together take a fifth of the time of a short run.
    """
    gc.disable()  # until a stage runs, see `_task`
    try:
        return main()
    finally:
        gc.freeze()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        words: arguments without the program's name; those of the process by default.

    Returns:
        0; 1 for a failure; 2 for a usage error; 130 after Ctrl-C.
    """
    words = sys.argv[1:] if words is None else list(words)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # names that are not UTF-8
    logging.basicConfig(format="imgrec: %(message)s", level=logging.WARNING)  # until Hydra sets up its own
    debug = "debug=true" in words
    _command[:] = [sys.argv[0], *words]
    stage = None
    try:
        if "--version" in words:
            sys.stdout.write(f"imgrec {imgrec.__version__}\n")
            return 0
        if words and words[0] in completion.FLAGS:
            sys.stdout.write(completion.answer(words[1:], os.environ))
            return 0
        read = arguments.read(words)
        stage = read.stage
        if not HELP.isdisjoint(words):
            sys.stdout.write(help.text(stage, read.config_folders, words) + "\n")
            return 0
        if read.needs_stage and stage is None:
            sys.stderr.write(f"imgrec: which stage? imgrec STAGE ...; --help tells more\n\n{help.stage_list()}\n")
            return UsageError.exit_code
        _run_hydra(read)
        return _outcome(is_multirun=read.is_multirun, debug=debug)
    except KeyboardInterrupt as error:
        return _tell(error, debug=debug)
    except SystemExit as error:  # Hydra's, after --help and the like
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        # Whoever read our output, `head` for one, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _tell(_explained(error, stage, words), debug=debug)
    finally:
        _errors.clear()


def _outcome(*, is_multirun: bool, debug: bool) -> int:
    """Tell the errors of all jobs; the exit code."""
    for error in _errors:
        if isinstance(error, BrokenPipeError):
            raise error
    codes = [_tell(error, debug=debug) for error in _errors]
    return ImgrecError.exit_code if codes and is_multirun else max(codes, default=0)


def _run_hydra(read: arguments.Arguments) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from imgrec import config

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to stderr and sys.exit
    folder = presets.conf_folders()[0].path
    if not read.config_folders and not any(word.startswith(("-", "hydra.mode")) for word in read.hydra):
        # A single run, as `hydra.main` has it, which would compose the configuration twice.
        config.register(stage=read.stage)
        with hydra.initialize_config_dir(folder, job_name="imgrec", version_base="1.3"):
            application = GlobalHydra.instance().hydra
            assert application is not None
            application.run("config", _task, read.hydra)
        return
    config.register(read.config_folders)
    sys.argv = [sys.argv[0], *read.hydra]
    hydra.main(version_base="1.3", config_path=folder, config_name="config")(_task)()


def _task(configuration: object) -> None:
    """One job: build the stage, run it, keep its error for the end."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    from imgrec import config
    from imgrec.run import Run

    gc.freeze()  # what is loaded stays
    gc.enable()
    assert isinstance(configuration, DictConfig)
    settings = HydraConfig.get()
    name, folder = settings.runtime.choices["stage"], Path(settings.runtime.output_dir)
    is_job_of_sweep = settings.mode == RunMode.MULTIRUN
    try:
        run = Run(
            name,
            folder,
            _command or sys.argv,
            config.plain(configuration),
            config.choices(settings),
            sweep=Path(settings.sweep.dir).absolute() if is_job_of_sweep else None,
        )
        try:
            stage = config.build_stage(name, configuration, run.choices)
            run.components = stage.plugins()
            for component in stage.components():
                run.uses(component.kind, component.name)
            logging.getLogger("imgrec").info("%s: %s", name, run.configuration)
            with run.recorded():
                stage.execute(run)
            logging.getLogger("imgrec").info("done: %s; seconds: %s", run.counts, run.timings)
        except UsageError as error:
            run.fail(error)
            if not is_job_of_sweep:
                _take_back(folder)
            raise
    except BaseException as error:
        if not isinstance(error, UsageError):
            log.info("%s", "".join(traceback.format_exception(error)))
        _errors.append(_of_job(settings.job.num, error) if is_job_of_sweep else error)
        if isinstance(error, KeyboardInterrupt):
            raise


def _of_job(number: int, error: BaseException) -> BaseException:
    """An error of a sweep's job, with the job's number in front."""
    if isinstance(error, ImgrecError | OSError):
        told = type(error) if isinstance(error, ImgrecError) else ImgrecError
        return told(f"job {number}: {error}").with_traceback(error.__traceback__)
    return error


def _take_back(folder: Path) -> None:
    """Remove what a run has written before its stage began, and the folders that are empty then.

    Never more: `hydra.run.dir=` may name a folder that holds something of the user's.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()
    for name in (
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "run.json",
        "git.diff",
        "imgrec.log",
    ):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty
        (folder / ".hydra").rmdir()
        for made in (folder, folder.parent, folder.parent.parent):
            made.rmdir()


def _explained(error: Exception, stage: str | None, words: Sequence[str]) -> Exception:
    """What came out of Hydra before a job began, as an error of ours where it is the user's to mend."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from imgrec import config

    if isinstance(error, RecursionError):
        return UsageError(
            "a preset of yours begins with itself: give it another name than the one in its defaults"
        )
    if isinstance(error, UnicodeDecodeError):
        return UsageError(f"a YAML file is not UTF-8: {error}")
    is_null_choice = isinstance(error, ValueError) and str(error).startswith("Config group override")
    if is_null_choice or isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
        return config.explain(error, stage, words)
    if isinstance(error, OSError) and not isinstance(error, ImgrecError):
        return UsageError(f"the run's folder cannot be made: {error.strerror}: {error.filename}")
    return error


def _tell(error: BaseException, *, debug: bool) -> int:
    """Say what went wrong, in a line; the exit code."""
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("imgrec: interrupted; the same command goes on from here\n")
        return 130
    if debug or not isinstance(error, ImgrecError | OSError):
        traceback.print_exception(error)
    else:
        sys.stderr.write(f"imgrec: {' '.join(str(error).split())}\n")
    return error.exit_code if isinstance(error, ImgrecError) else 1


if __name__ == "__main__":
    sys.exit(program())
