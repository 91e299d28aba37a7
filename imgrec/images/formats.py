"""What a file is that nothing here reads, for the reason why it is refused."""

from __future__ import annotations

import re

_LEADING: tuple[tuple[bytes, str], ...] = (
    (rb"%PDF-", "a PDF document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript, which is a program"),
    (rb"(?s)\s*(<\?xml.{,2000}?|<!--.{,2000}?|<!DOCTYPE svg.{,500}?)*<svg[\s>]", "an SVG drawing"),
    (rb"(?is)\s*(<!--.{,500}?-->\s*)?<(!doctype html|html|head|body)", "a web page"),
    (rb"RIFF....WEBP", "a broken WebP without a picture"),
    (rb"8BPS", "a Photoshop document (PSD)"),
    (rb"gimp xcf", "a GIMP document (XCF)"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"II\xbc[\0\1]", "JPEG XR"),
    (rb"....ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|FOVb|\0MRM|.{6}HEAPCCDR", "a camera's raw file"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "HEIF"),
    (
        rb"....ftyp|....moov|....mdat|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xba\xb3]|FLV\x01|0&\xb2u\x8ef\xcf",
        "a video",
    ),
    (rb"RIFF....WAVE|ID3|OggS|fLaC", "a sound recording"),
    (rb"\0\0[\1\2]\0[^\0]", "an icon or a cursor"),
    (rb"icns", "an icon"),
    (rb"v/1\x01", "OpenEXR, whose values have no known range"),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR, whose values have no known range"),
    (rb"P[Ff][\r\n ]", "PFM, whose values have no known range"),
    (rb"SIMPLE  =", "FITS"),
    (rb".{128}DICM", "DICOM"),
    (rb"DDS |\xabKTX", "a texture"),
    (rb"qoif", "QOI"),
    (rb"\n[\0\2\3\4\5]\x01[\1\2\4\x08]", "PCX"),
    (rb"AT&TFORM", "DjVu"),
    (rb"BPG\xfb", "BPG"),
    (rb"FLIF", "FLIF"),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile"),
    (rb"\0\x05\x16[\0\7]", "a file's Macintosh attributes (._ file)"),
    (rb"PK[\3\5]|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ", "an archive, or a compressed file"),
    (rb"version https://git-lfs", "a pointer of Git LFS: `git lfs pull` fetches the picture"),
    (rb"SQLite format 3", "a database"),
    (rb"\0{64}", "nothing but zeros, as a broken copy leaves it"),
)
"""By their first bytes, kinds of files that nothing built in reads."""


def described(data: bytes) -> str | None:
    """What a file is, by its first bytes, in words; None if they tell nothing.

    >>> described(b"%PDF-1.7"), described(b"?")
    ('a PDF document', None)
    """
    head = data[:4096].removeprefix(b"\xef\xbb\xbf")  # what text may begin with
    return next((name for pattern, name in _LEADING if re.match(pattern, head, re.DOTALL)), None)
