from dataclasses import dataclass

import numpy as np

import imgrec


@dataclass
class Concat(imgrec.Extractor):
    """Concatenated vectors of two extractors, the second one's multiplied by a factor."""

    first: imgrec.Extractor = imgrec.component("extractor")
    second: imgrec.Extractor = imgrec.component("extractor")
    factor: float = imgrec.option(1.0, minimum=0, help="what the second one's values are multiplied by")

    def extract(self, images):
        vectors = self.first.extract(images), self.second.extract(images) * np.float32(self.factor)
        return np.hstack(vectors)


@imgrec.hookimpl
def imgrec_components():
    return [Concat]
