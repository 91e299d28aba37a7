"""Images of the suckless tools: 16 bits a channel, without compression."""

import struct
from dataclasses import dataclass

import numpy as np

import imgrec

MAGIC = b"farbfeld"


@dataclass
class FF(imgrec.Decoder):
    """Images of the suckless tools: 16 bits a channel, without compression."""

    name = "ff"
    suffixes = (".ff",)

    @classmethod
    def recognises(cls, head):
        """Whether a file has the format's magic bytes."""
        return head.startswith(MAGIC)

    def open(self, data):
        """Decode to 8 bits per channel, with transparency."""
        import PIL.Image

        width, height = struct.unpack(">II", data[len(MAGIC) : 16])
        values = np.frombuffer(data, ">u2", width * height * 4, offset=16)
        return PIL.Image.fromarray((values >> 8).astype(np.uint8).reshape(height, width, 4))


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [FF]
