"""Images inside zip archives: `photos.zip/2024/a.jpg` is the file `2024/a.jpg` of `photos.zip`."""

import functools
import os
import zipfile
from dataclasses import dataclass

import imgrec
from imgrec import ImageFile, UnreadableImageError

MARK = ".zip/"
LARGEST = 400_000_000


@dataclass
class Zip(imgrec.Source):
    """Images inside zip archives, read without unpacking them."""

    name = "zip"
    at_once = imgrec.cores()

    @classmethod
    def recognises(cls, path):
        """Whether a path is an archive or a file in one."""
        return path.lower().endswith(MARK[:-1]) or MARK in path.lower()

    def find(self, roots):
        """The images of each archive, or of a folder in it, sorted by name."""
        for archive, inner in dict.fromkeys(map(_parts, roots)):
            for info in sorted(_opened(archive).infolist(), key=lambda info: info.filename):
                is_image = os.path.splitext(info.filename)[1].lower() in imgrec.image_suffixes()
                if is_image and (not inner or f"{info.filename}/".startswith(f"{inner}/")):
                    yield _file(archive, info)

    def state(self, path):
        """A file's entry in the archive's directory; for an archive, whether it exists."""
        archive, inner = _parts(path)
        if not os.path.exists(archive):
            return None
        try:
            names = _opened(archive).NameToInfo
            if inner in names:
                return _file(archive, names[inner])
            is_folder = not inner or any(name.startswith(f"{inner}/") for name in names)
            return ImageFile(path, 0, 0, problem="not a regular file") if is_folder else None
        except (OSError, zipfile.BadZipFile) as error:
            return ImageFile(path, 0, 0, problem=f"cannot be opened: {error}")

    def read(self, path):
        """The unpacked bytes; the archive's directory tells their number before unpacking."""
        archive, inner = _parts(path)
        try:
            info = _opened(archive).getinfo(inner)
            if info.file_size > LARGEST:
                raise UnreadableImageError(f"too large: {info.file_size:,} bytes")
            return _opened(archive).read(info), _file(archive, info)
        except UnreadableImageError:
            raise
        except Exception as error:  # damaged archives make their decompressors raise anything
            raise UnreadableImageError(f"cannot be opened: {error}") from None


def _opened(archive):
    """The open archive, cached until the file changes; thread-safe for reading."""
    return _opened_once(archive, os.stat(archive).st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _opened_once(archive, changed):
    return zipfile.ZipFile(archive)


def _parts(path):
    """Split a path into the archive and the name inside it."""
    end = (path.lower() + "/").index(MARK) + len(MARK) - 1
    return path[:end], path[end + 1 :]


def _file(archive, info):
    """An ImageFile stamped with the checksum in the archive, which changes with the content."""
    changed = os.stat(archive).st_mtime_ns
    return ImageFile(f"{archive}/{info.filename}", info.file_size, changed, stamp=f"{info.CRC:08x}")


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [Zip]
