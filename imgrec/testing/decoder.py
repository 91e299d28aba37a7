"""The contract of decoders."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import PIL.Image

from imgrec.kinds import Decoder
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

OTHERS = {
    "a JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb\x00\x43\x00",
    "a PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00",
    "a WebP": b"RIFF\x24\x00\x00\x00WEBPVP8 \x18\x00\x00\x00",
    "a GIF": b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00",
    "an AVIF": b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1miaf",
    "a text": b"The quick brown fox jumps over the lazy dog. 0123456789",
    "zeros": bytes(64),
    "nothing": b"",
}
"""First bytes of files of other formats."""


@dataclass
class Subject:
    """A decoder under test."""

    decoder: Decoder
    data: bytes

    def pixels(self, data: bytes | None = None) -> str:
        """A digest of a decoded image's size and pixels."""
        picture: object = self.decoder.open(self.data if data is None else data)
        require(isinstance(picture, PIL.Image.Image), f"{type(picture).__name__}, not a PIL.Image.Image")
        assert isinstance(picture, PIL.Image.Image)
        require(picture.width > 0 and picture.height > 0, f"a picture of {picture.width}x{picture.height} pixels")
        array = np.asarray(picture.convert("RGB"))
        require(array.shape == (picture.height, picture.width, 3), f"pixels of shape {array.shape}")
        return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()


def check_decoder(decoder: Decoder, data: bytes) -> None:
    """Check that a decoder keeps its contract.

    Args:
        decoder: an instance of a class defined at module level.
        data: the content of a valid file of its format.

    Raises:
        ContractError: any check failed.
    """
    kit.run(f"decoder {decoder.name}", CHECKS, Subject(decoder, data))


# --- the checks ---------------------------------------------------------------------------------------------


def a_picture_comes_out(subject: Subject) -> None:
    """`open` returns a PIL.Image.Image of one pixel or more that can be converted to RGB."""
    subject.pixels()


def its_files_are_recognised(subject: Subject) -> None:
    """`recognises` returns True for its files."""
    said: object = subject.decoder.recognises(subject.data)
    require(said is True, f"{said!r} to {subject.data[:16]!r}...")


def other_files_are_left_alone(subject: Subject) -> None:
    """`recognises` returns False for files of other formats and empty ones, as it is called for every file."""
    for name, head in OTHERS.items():
        said: object = subject.decoder.recognises(head)
        require(said is False, f"{said!r} to {name}")


def its_files_are_found(subject: Subject) -> None:
    """`suffixes` has the suffixes of its files, lower case with the dot, by which folders are searched."""
    require(len(subject.decoder.suffixes) > 0, "no suffix")


def the_same_pixels_come_out_again(subject: Subject) -> None:
    """The same bytes give the same pixels, also in several threads at once."""
    first = subject.pixels()
    with ThreadPoolExecutor(4) as pool:
        again = set(pool.map(lambda _: subject.pixels(), range(8)))
    require(again == {first}, "other pixels")


def damaged_files_are_errors_or_pictures(subject: Subject) -> None:
    """For a truncated or corrupted file, `open` returns an image or raises an Exception."""
    rng = np.random.default_rng(0)
    damaged = [subject.data[: round(share * len(subject.data))] for share in (0, 0.1, 0.5, 0.9)]
    for _ in range(20):
        altered = np.frombuffer(subject.data, np.uint8).copy()
        altered[rng.integers(0, len(altered), 4)] = rng.integers(0, 256, 4)
        damaged.append(altered.tobytes())
    for data in damaged:
        try:
            subject.pixels(data)
        except kit.SeenError:
            raise
        except Exception:
            continue
        except BaseException as error:
            raise kit.SeenError(f"{type(error).__name__} of a damaged file: {error}") from error


def class_can_be_listed(subject: Subject) -> None:
    """The class is a dataclass without options and with a valid name."""
    kit.check_class(subject.decoder)


def module_is_light(subject: Subject) -> None:
    """Importing the module and building the decoder imports no heavy library before its first use."""
    kit.check_light(subject.decoder)


CHECKS = tuple(
    map(
        Check,
        (
            a_picture_comes_out,
            its_files_are_recognised,
            other_files_are_left_alone,
            its_files_are_found,
            the_same_pixels_come_out_again,
            damaged_files_are_errors_or_pictures,
            class_can_be_listed,
            module_is_light,
        ),
    )
)
