"""The command line: `python -m imgrec`, `imgrec`. Arguments in, exit code out."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imgrec
from imgrec import presets, registry
from imgrec.cli import arguments, completion, help, streams  # noqa: A004 - named after --help
from imgrec.errors import ImgrecError, PluginFailedError, UsageError
from imgrec.kinds import Stage
from imgrec.run.console import write_results

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

    from imgrec.cli.sweep import Sweep
    from imgrec.run import Run

log = logging.getLogger(__name__)

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

HELP = frozenset(("--help", "-h"))

_errors: list[tuple[BaseException, bool]] = []
"""Errors of the run, each with its `debug` option, kept from Hydra, which would print a traceback."""


def program() -> int:
    """Run `main` as the whole process, without garbage collection during start-up and exit.

    That saves a fifth of the time of a short run.
    """
    streams.open_closed()
    gc.disable()  # until a stage runs; see `_task`
    try:
        code = main()
    finally:
        gc.freeze()
    with contextlib.suppress(BrokenPipeError):
        try:
            write_results("")  # what Hydra has printed may not be written yet
        except ImgrecError as error:
            code = code or _report(error, debug=False)
    streams.drop_results()
    if code == INTERRUPTED:  # do not wait for threads that are still at work
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    return code


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        words: the arguments without the program's name; by default those of the process.

    Returns:
        The exit code: 0, 1 for a failure, 2 for a usage error, 130 after Ctrl-C.
    """
    words = sys.argv[1:] if words is None else list(words)
    _print_any_name()
    logging.basicConfig(format="imgrec: %(message)s", level=logging.WARNING)  # until Hydra sets up its own
    debug = "debug=true" in words
    stage = None
    try:
        if "--version" in words:
            write_results(f"imgrec {imgrec.__version__}\n")
            return 0
        if words and words[0] in completion.FLAGS:
            write_results(completion.answer(words[1:], os.environ))
            return 0
        read = arguments.read(words)
        stage = read.stage
        if not HELP.isdisjoint(words):
            write_results(help.text(stage, read.config_folders, words) + "\n")
            return 0
        if read.needs_stage and stage is None:
            sys.stderr.write(f"imgrec: which stage? imgrec STAGE ...; see --help\n\n{help.stage_list()}\n")
            return UsageError.exit_code
        return _outcome(_run(read, [sys.argv[0], *words]), debug=debug)
    except KeyboardInterrupt as error:
        return _report(error, debug=debug)
    except SystemExit as error:  # raised by Hydra, after --hydra-help for example
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        streams.drop_results()
        return 0
    except Exception as error:
        return _report(_explained(error, stage, words), debug=debug)
    finally:
        _errors.clear()


def _print_any_name() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # names that are not UTF-8


def _run(read: arguments.Arguments, command: Sequence[str]) -> Sweep | None:
    """Run one job, or a sweep and return it."""
    if read.keeps_record:
        return _run_hydra(read, command)
    with tempfile.TemporaryDirectory(prefix="imgrec-", ignore_cleanup_errors=True) as folder:
        words = [f"hydra.run.dir={arguments.quoted(folder)}", *read.hydra]
        try:
            return _run_hydra(dataclasses.replace(read, hydra=words), command)
        finally:
            _close_log_files()


def _run_hydra(read: arguments.Arguments, command: Sequence[str]) -> Sweep | None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from imgrec.cli import config, jobs

    keeps_record, config_folders = read.keeps_record, read.config_folders

    def task(configuration: object) -> Any:  # pickled with its closure for other processes
        return _task(configuration, command, config_folders, keeps_record=keeps_record)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to stderr and sys.exit
    config.SweepFolder.path = None
    folder, returned = presets.conf_folders()[0].path, None
    words = [word for word in read.hydra if word not in arguments.MULTIRUN]
    is_plain = not any(word.startswith(("-", "hydra.mode=")) for word in words)
    if is_plain and (read.is_multirun or not read.config_folders):
        # `hydra.main` would compose the configuration twice, and would not return a sweep's jobs.
        config.register(read.config_folders, stage=None if read.is_multirun else read.stage)
        with hydra.initialize_config_dir(folder, job_name="imgrec", version_base="1.3"):
            application = GlobalHydra.instance().hydra
            assert application is not None
            if read.is_multirun:
                words.append("hydra.mode=MULTIRUN")
                composed = application.compose_config("config", words, RunMode.MULTIRUN)
                ranking = registry.classes(Stage)[read.stage].ranking if read.stage else None
                jobs.check_sweep(composed, application.config_loader, ranking)
                with _sweep_that_goes_on(is_resumed=ranking is not None):
                    returned = application.multirun("config", task, words)
            else:
                application.run("config", task, words)
    else:
        config.register(read.config_folders)
        sys.argv = [sys.argv[0], *read.hydra]
        with _sweep_that_goes_on(is_resumed=False):
            hydra.main(version_base="1.3", config_path=folder, config_name="config")(task)()
    if config.SweepFolder.path is None:
        return None
    from imgrec.cli.sweep import Sweep

    return Sweep.read(Path(config.SweepFolder.path), config.job_folders(returned or []))


@contextlib.contextmanager
def _sweep_that_goes_on(*, is_resumed: bool) -> Iterator[None]:
    """Say how to resume a sweep that ends early; `is_resumed`: jobs that are done are not run again."""
    from concurrent.futures import BrokenExecutor

    from imgrec.cli import config

    try:
        yield
    except KeyboardInterrupt:
        if config.SweepFolder.path is None or not is_resumed:
            raise
        raise KeyboardInterrupt(
            f"the same command with hydra.sweep.dir={config.SweepFolder.path} goes on from here"
        ) from None
    except BrokenExecutor:
        raise ImgrecError(
            "the process of a job was killed, possibly for lack of memory; "
            f"the same command with hydra.sweep.dir={config.SweepFolder.path} goes on from here"
        ) from None
    except Exception:  # before the first job, since errors of jobs are recorded
        if config.SweepFolder.path is None:
            raise
        if not next(Path(config.SweepFolder.path).rglob("run.json"), None):
            _take_back_sweep(Path(config.SweepFolder.path))
            raise
        if not (is_resumed and _all_failed(Path(config.SweepFolder.path))):  # Optuna wants one that is done
            raise


def _all_failed(folder: Path) -> bool:
    from imgrec.cli.sweep import Sweep

    return all(job.error for job in Sweep.read(folder).jobs)


def _outcome(sweep: Sweep | None, *, debug: bool) -> int:
    """Report a run's error, or a sweep's leaderboard and failed jobs, and return the exit code."""
    for error, _ in _errors:
        if isinstance(error, BrokenPipeError):
            raise error
    if sweep is None:
        return max((_report(error, debug=debug or is_asked) for error, is_asked in _errors), default=0)
    if board := sweep.leaderboard():
        files = board.save()
        write_results(f"{board.to_json() if board.is_json else board.to_text()}\n")
        sys.stderr.write(f"{board.legend()}\n{', '.join(file.name for file in files)} in {sweep.folder}\n")
        if changed := sweep.changed():
            sys.stderr.write(f"imgrec: {changed}\n")
    if not sweep.jobs:
        sys.stderr.write("imgrec: the sweep has run no job\n")
        return ImgrecError.exit_code
    failed = [job.name for job in sweep.jobs if job.error]
    if failed:
        message = f"job {failed[0]}" if len(failed) == 1 else f"jobs {', '.join(failed)}"
        sys.stderr.write(f"imgrec: {len(failed)} of {len(sweep.jobs)} jobs failed: {message} of {sweep.folder}\n")
    return ImgrecError.exit_code if failed else 0


def _task(
    configuration: object, command: Sequence[str], config_folders: tuple[str, ...], *, keeps_record: bool
) -> Any:
    """Run one job and record its error; in a sweep, report it at once, and return its figures.

    Jobs of a sweep may run in other processes, which have only these arguments.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    from imgrec.cli import config, jobs

    gc.freeze()  # exempt loaded modules from collection
    gc.enable()
    assert isinstance(configuration, DictConfig)
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    is_job_of_sweep = settings.mode == RunMode.MULTIRUN
    if is_job_of_sweep:
        _print_any_name()
        config.register(config_folders)
    try:
        number = settings.job.num if is_job_of_sweep else None
        run = _begun(configuration, settings, command, number)
        with contextlib.redirect_stdout(sys.stderr):  # whatever plugins and libraries print is no result
            _execute(run, configuration, number, keeps_record=keeps_record)
    except BaseException as error:
        if not isinstance(error, UsageError):
            log.info("%s", "".join(traceback.format_exception(error)))
        elif keeps_record and not is_job_of_sweep:
            _take_back(folder)
        if not is_job_of_sweep or isinstance(error, BrokenPipeError):
            _errors.append((error, bool(configuration.get("debug", False))))
        elif not isinstance(error, KeyboardInterrupt):
            _report(_of_job(settings.job.num, error), debug=configuration.get("debug", False))
        if isinstance(error, KeyboardInterrupt):
            raise
        return None
    if not is_job_of_sweep:
        return None
    from imgrec.cli import sweep

    return sweep.Job.of(run).figures(len(jobs.directions(settings) or [""]))


def _begun(configuration: DictConfig, settings: HydraConf, command: Sequence[str], number: int | None) -> Run:
    """A run that has not begun; `number` is the job's in a sweep."""
    from imgrec.cli import config, jobs, values
    from imgrec.run import Run

    name = settings.runtime.choices["stage"]
    cls, given = registry.classes(Stage)[name], config.overrides(settings)
    left_out = {} if number is None else jobs.leave_out(configuration, given)
    for key, choice in left_out.items():
        sys.stderr.write(f"job {number}: without {key}, which {choice} does not have\n")
    options = values.plain(configuration, cls)
    run = Run(name, Path(settings.runtime.output_dir), command, options, config.choices(settings))
    run.environment = values.environment(options, cls)
    run.overrides = {key: value for key, value in given.items() if key not in left_out}
    if number is not None:
        run.sweep = Path(settings.sweep.dir).absolute()
    return run


def _execute(run: Run, configuration: DictConfig, number: int | None, *, keeps_record: bool) -> None:
    """Build the stage and run it; `number` is the job's in a sweep."""
    from imgrec.cli import config

    is_ranked = number is not None and registry.classes(Stage)[run.stage].ranking is not None
    if is_ranked:
        from imgrec.cli import sweep

        if before := sweep.done_before(run):
            if (run.sweep / before.name) == run.folder:  # type: ignore[operator]
                sys.stderr.write(f"job {number}: done before, {before.summary()}\n")
            else:
                sweep.take_over(run, before)
                sys.stderr.write(f"job {number}: the same as job {before.name}, {before.summary()}\n")
            return
        run.is_quiet = True
    try:
        stage = config.build_stage(run.stage, configuration, run.choices)
        run.works_with(stage)
        logging.getLogger("imgrec").info("%s: %s", run.stage, run.configuration)
        with run.recorded() if keeps_record else contextlib.nullcontext():
            stage.execute(run)
        logging.getLogger("imgrec").info("done: %s; seconds: %s", run.counts, run.timings)
    except Exception as error:
        if isinstance(error, UsageError) or run.status == "running":  # otherwise it is recorded already
            run.fail(error)
        raise
    if is_ranked:
        sys.stderr.write(f"job {number}: {sweep.Job.of(run).summary()}\n")


def _of_job(number: int, error: BaseException) -> BaseException:
    """Prefix the error of a sweep's job with the job's number."""
    if isinstance(error, ImgrecError | OSError):
        message = type(error) if isinstance(error, ImgrecError) else ImgrecError
        told = message(f"job {number}: {error}").with_traceback(error.__traceback__)
        told.__cause__ = error.__cause__
        return told
    return error


def _close_log_files() -> None:
    """Close those of a run whose folder goes: what this process logs later would be an error."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()


def _take_back(folder: Path) -> None:
    """Remove what a run wrote before its stage began, and folders left empty.

    Nothing else is removed, as `hydra.run.dir=` may name a folder with files of the user.
    """
    _close_log_files()
    for name in (
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "run.json",
        "git.diff",
        "imgrec.log",
    ):
        (folder / name).unlink(missing_ok=True)
    _remove_empty(folder / ".hydra", folder, *folder.parents[:2])


def _take_back_sweep(folder: Path) -> None:
    """Remove what Hydra wrote for a sweep without jobs."""
    if [path.name for path in folder.glob("*")] == ["multirun.yaml"]:
        (folder / "multirun.yaml").unlink()
        _remove_empty(folder, *folder.parents[:3])


def _remove_empty(*folders: Path) -> None:
    with contextlib.suppress(OSError):  # not empty
        for folder in folders:
            folder.rmdir()


def _explained(error: Exception, stage: str | None, words: Sequence[str]) -> Exception:
    """Turn an exception raised before a job began into a usage error if the user can fix it."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from imgrec.cli import messages

    if isinstance(error, RecursionError):
        return UsageError(
            "a preset of yours begins with itself: give it another name than the one in its defaults"
        )
    if isinstance(error, UnicodeDecodeError):
        return UsageError(f"a YAML file is not UTF-8: {error}")
    is_null_choice = (
        isinstance(error, ValueError) and messages.MESSAGES["null choice"].match(str(error)) is not None
    )
    if is_null_choice or isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
        return messages.explain(error, stage, words)
    if isinstance(error, OSError) and error.filename is not None:
        return UsageError(f"the run's folder cannot be made: {error.strerror}: {error.filename}")
    return error


def _report(error: BaseException, *, debug: bool) -> int:
    """Print an error in one line and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write(f"imgrec: interrupted; {str(error) or 'the same command starts again'}\n")
        return INTERRUPTED
    if debug or not isinstance(error, ImgrecError | OSError):
        traceback.print_exception(error)
    else:
        where = "; debug=true shows where" if isinstance(error, PluginFailedError) else ""
        sys.stderr.write(f"imgrec: {' '.join(str(error).split())}{where}\n")
    return error.exit_code if isinstance(error, ImgrecError) else 1
