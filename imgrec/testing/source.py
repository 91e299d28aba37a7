"""The contract of sources."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imgrec.images import UnreadableImageError
from imgrec.kinds import ImageFile, Source
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

OTHERS = ("/photos/a.jpg", "/photos", "C:\\photos\\a.jpg", "photos/2024/b.png", "", "nowhere://host/a.jpg")
"""Local paths, and a path of a source that does not exist."""


@dataclass
class Subject:
    """A source under test, with a root that holds images, or what a user types for roots."""

    source: Source
    root: str

    @property
    def roots(self) -> list[str]:
        """The roots that are meant."""
        return self.source.roots(self.root)

    def found(self) -> list[ImageFile]:
        """The files found under the roots."""
        return list(self.source.find(self.roots))


def check_source(source: Source, root: str) -> None:
    """Check that a source keeps its contract.

    Args:
        source: an instance of a class defined at module level.
        root: an absolute path with at least two image files, which do not change during the checks; or a pattern
            or list, if the source has these.

    Raises:
        ContractError: any check failed.
    """
    kit.run(f"source {source.name}", CHECKS, Subject(source, root))


# --- the checks ---------------------------------------------------------------------------------------------


def files_are_found(subject: Subject) -> None:
    """`find` yields an ImageFile for each image file under the roots, always in the same order."""
    found = subject.found()
    require(len(found) >= 2, f"{len(found)} files under {subject.root}")
    for each in found:
        require(isinstance(each, ImageFile), f"{type(each).__name__}, not an ImageFile")
        require(bool(each.path) and each.size >= 0, f"{each!r}")
    require(subject.found() == found, "something else the second time")


def a_root_means_itself(subject: Subject) -> None:
    """`roots` returns the roots that a path means, each of which means itself, and is this source's."""
    roots = subject.roots
    require(bool(roots), f"no roots of {subject.root!r}")
    for each in roots:
        if subject.source.recognises(each):  # else another source's, as in a list
            require(subject.source.roots(each) == [each], f"{subject.source.roots(each)!r} of the root {each!r}")


def each_is_found_once(subject: Subject) -> None:
    """A file is found once, even if roots overlap."""
    paths = [file.path for file in subject.source.find(subject.roots * 2)]
    require(len(set(paths)) == len(paths), f"{len(paths)} paths, of which {len(set(paths))} differ")


def paths_are_those_of_the_files(subject: Subject) -> None:
    """`paths` yields the paths that `find` yields, in the same order."""
    wanted = [file.path for file in subject.found()]
    require(list(subject.source.paths(subject.roots)) == wanted, "other paths, or in another order")


def what_is_skipped_is_what_is_excluded(subject: Subject) -> None:
    """`skipping` gives a source that finds all files that are not excluded, in the same order."""
    found = [file.path for file in subject.found()]
    first, others = found[0], found[1:]
    source = subject.source.skipping(lambda path: path == first)
    left = [file.path for file in source.find(subject.roots) if file.path != first]
    require(left == others, f"{len(left)} files instead of {len(others)}")


def paths_lie_below_the_root(subject: Subject) -> None:
    """A path is a root, or begins with a root and a slash, which is how images below a root are selected."""
    roots = subject.roots
    starts = tuple(start for root in roots for start in (f"{root.rstrip('/')}/", f"{root}\\"))
    for file in subject.found():
        require(file.path in roots or file.path.startswith(starts), f"{file.path!r} of the root {roots[0]!r}")


def its_paths_are_recognised(subject: Subject) -> None:
    """`recognises` returns True for the root and every path found."""
    for path in [subject.root, *subject.roots, *(file.path for file in subject.found())]:
        said: object = subject.source.recognises(path)
        require(said is True, f"{said!r} to {path!r}")


def other_paths_are_left_alone(subject: Subject) -> None:
    """`recognises` returns False for paths of other sources, also relative and empty ones."""
    for path in OTHERS:
        said: object = subject.source.recognises(path)
        require(said is False, f"{said!r} to {path!r}")


def state_is_as_found(subject: Subject) -> None:
    """`state` of a path is what `find` yielded; of a root, it is not None."""
    for file in subject.found():
        require(subject.source.state(file.path) == file, f"{subject.source.state(file.path)!r}, not {file!r}")
    for root in subject.roots:
        require(subject.source.state(root) is not None, f"None of the root {root}")


def what_is_gone_is_told(subject: Subject) -> None:
    """For a missing file, `state` is None and `read` raises UnreadableImageError."""
    gone = f"{subject.found()[0].path}-gone.jpg"
    require(subject.source.state(gone) is None, f"{subject.source.state(gone)!r} of {gone}")
    try:
        subject.source.read(gone)
    except UnreadableImageError:
        return
    raise kit.SeenError(f"{gone} was read")


def bytes_belong_to_their_state(subject: Subject) -> None:
    """`read` returns a file's bytes and its state, with their size; if unchanged, the state is that of `find`."""
    for file in subject.found():
        data, state = subject.source.read(file.path)
        require(isinstance(data, bytes), f"{type(data).__name__}, not bytes")
        require(state.size == len(data), f"{len(data)} bytes, and a size of {state.size}")
        require(state == file, f"{state!r}, not {file!r}")


def a_part_is_of_the_whole(subject: Subject) -> None:
    """`read_part` returns the bytes asked for, fewer where the file ends, and the state that `read` returns."""
    file = subject.found()[0]
    data, state = subject.source.read(file.path)
    for start, size in ((0, 1), (1, len(data) // 2), (len(data) // 2, len(data)), (len(data) - 1, 1)):
        part, seen = subject.source.read_part(file.path, start, size)
        require(part == data[start : start + size], f"{len(part)} other bytes, asked for {size} from {start}")
        require(seen == state, f"{seen!r}, not {state!r}")


def threads_may_share_it(subject: Subject) -> None:
    """`read` is thread-safe."""
    paths = [file.path for file in subject.found()] * 4

    def digest(path: str) -> str:
        return hashlib.sha256(subject.source.read(path)[0]).hexdigest()

    wanted = [digest(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        require(list(pool.map(digest, paths)) == wanted, "other bytes")


def class_can_be_listed(subject: Subject) -> None:
    """The class is a dataclass without options and with a valid name; `at_once` is at least 1."""
    kit.check_class(subject.source)


def module_is_light(subject: Subject) -> None:
    """Importing the module and building the source imports no heavy library before its first use."""
    kit.check_light(subject.source)


CHECKS = tuple(
    map(
        Check,
        (
            files_are_found,
            a_root_means_itself,
            each_is_found_once,
            paths_are_those_of_the_files,
            what_is_skipped_is_what_is_excluded,
            paths_lie_below_the_root,
            its_paths_are_recognised,
            other_paths_are_left_alone,
            state_is_as_found,
            what_is_gone_is_told,
            bytes_belong_to_their_state,
            a_part_is_of_the_whole,
            threads_may_share_it,
            class_can_be_listed,
            module_is_light,
        ),
    )
)
