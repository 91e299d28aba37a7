"""What a source promises."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imgrec.images import UnreadableImageError
from imgrec.kinds import ImageFile, Source
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

OTHERS = ("/photos/a.jpg", "/photos", "C:\\photos\\a.jpg", "photos/2024/b.png", "", "nowhere://host/a.jpg")
"""Paths of files and folders of this machine, and of a source that nobody has."""


@dataclass
class Subject:
    """A source under examination, with a root of it that holds images."""

    source: Source
    root: str

    def found(self) -> list[ImageFile]:
        """What it finds under the root."""
        return list(self.source.find([self.root]))


def check_source(source: Source, root: str) -> None:
    """Hold a source to its contract.

    Args:
        source: of a class that lies at the top of a module.
        root: absolute; two image files at least are under it, and none of them changes meanwhile.

    Raises:
        ContractError: saying what the contract is and what was seen, for every check that failed.
    """
    kit.run(f"source {source.name}", CHECKS, Subject(source, root))


# --- the checks ---------------------------------------------------------------------------------------------


def files_are_found(subject: Subject) -> None:
    """`find` yields an ImageFile for each image file under the roots, in the same order each time."""
    found = subject.found()
    require(len(found) >= 2, f"{len(found)} files under {subject.root}")
    for each in found:
        require(isinstance(each, ImageFile), f"{type(each).__name__}, not an ImageFile")
        require(bool(each.path) and each.size >= 0, f"{each!r}")
    require(subject.found() == found, "something else the second time")


def each_is_found_once(subject: Subject) -> None:
    """A file is found once, also where roots lead to it twice."""
    paths = [file.path for file in subject.source.find([subject.root, subject.root])]
    require(len(set(paths)) == len(paths), f"{len(paths)} paths, of which {len(set(paths))} differ")


def paths_are_those_of_the_files(subject: Subject) -> None:
    """`paths` has the paths of what `find` finds, in the same order."""
    wanted = [file.path for file in subject.found()]
    require(list(subject.source.paths([subject.root])) == wanted, "other paths, or in another order")


def paths_lie_below_the_root(subject: Subject) -> None:
    """A path is its root, or begins with the root and a slash: so is told what lies below a source."""
    for file in subject.found():
        is_below = file.path.startswith((f"{subject.root.rstrip('/')}/", f"{subject.root}\\"))
        require(file.path == subject.root or is_below, f"{file.path!r} of the root {subject.root!r}")


def its_paths_are_recognised(subject: Subject) -> None:
    """`recognises` says True to the root and to every path found."""
    for path in [subject.root, *(file.path for file in subject.found())]:
        said: object = subject.source.recognises(path)
        require(said is True, f"{said!r} to {path!r}")


def other_paths_are_left_alone(subject: Subject) -> None:
    """`recognises` says False to paths of other sources, relative and empty ones among them."""
    for path in OTHERS:
        said: object = subject.source.recognises(path)
        require(said is False, f"{said!r} to {path!r}")


def state_is_as_found(subject: Subject) -> None:
    """`state` of a path found is what `find` yielded; of the root it is not None."""
    for file in subject.found():
        require(subject.source.state(file.path) == file, f"{subject.source.state(file.path)!r}, not {file!r}")
    require(subject.source.state(subject.root) is not None, f"None of the root {subject.root}")


def what_is_gone_is_told(subject: Subject) -> None:
    """Of a file that is not there `state` is None, and `read` raises UnreadableImageError."""
    gone = f"{subject.found()[0].path}-gone.jpg"
    require(subject.source.state(gone) is None, f"{subject.source.state(gone)!r} of {gone}")
    try:
        subject.source.read(gone)
    except UnreadableImageError:
        return
    raise kit.SeenError(f"{gone} was read")


def bytes_belong_to_their_state(subject: Subject) -> None:
    """`read` gives a file's bytes and its state, whose size is theirs: as `find` had it, if it is unchanged."""
    for file in subject.found():
        data, state = subject.source.read(file.path)
        require(isinstance(data, bytes), f"{type(data).__name__}, not bytes")
        require(state.size == len(data), f"{len(data)} bytes, and a size of {state.size}")
        require(state == file, f"{state!r}, not {file!r}")


def threads_may_share_it(subject: Subject) -> None:
    """One object reads in several threads at once."""
    paths = [file.path for file in subject.found()] * 4

    def digest(path: str) -> str:
        return hashlib.sha256(subject.source.read(path)[0]).hexdigest()

    wanted = [digest(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        require(list(pool.map(digest, paths)) == wanted, "other bytes")


def class_can_be_listed(subject: Subject) -> None:
    """The class is a dataclass without options, with a name that can be chosen; `at_once` is 1 or more."""
    kit.check_class(subject.source)


def module_is_light(subject: Subject) -> None:
    """Importing the module and building the source imports no heavy library: that waits until its first use."""
    kit.check_light(subject.source)


CHECKS = tuple(
    map(
        Check,
        (
            files_are_found,
            each_is_found_once,
            paths_are_those_of_the_files,
            paths_lie_below_the_root,
            its_paths_are_recognised,
            other_paths_are_left_alone,
            state_is_as_found,
            what_is_gone_is_told,
            bytes_belong_to_their_state,
            threads_may_share_it,
            class_can_be_listed,
            module_is_light,
        ),
    )
)
