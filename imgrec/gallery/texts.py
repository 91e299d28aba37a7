"""Which spaces of a gallery can be asked in words."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.gallery import similarity
from imgrec.gallery.similarity import Term
from imgrec.kinds import Extractor, Recorded, Space, Store

log = logging.getLogger(__name__)


def takes_text(space: Space) -> bool:
    """Whether the extractor of a space takes text, and is installed here."""
    cls = registry.classes(Extractor).get(space.extractor)
    return cls is not None and cls.takes_text()


def check_takes_text(store: Store, terms: Iterable[Term]) -> None:
    """Refuse terms that cannot be asked in words.

    Raises:
        UsageError: saying which term cannot, and which of the gallery's spaces can, or which extractors could.
    """
    if unable := [term.space.key for term in terms if not takes_text(term.space)]:
        able = [space.key for space in store.spaces() if takes_text(space)]
        makers = [f"extractor={name}" for name, cls in registry.classes(Extractor).items() if cls.takes_text()]
        how = f"choose space={' or space='.join(able)}" if able else f"ingest with {' or '.join(makers)} first"
        raise UsageError(f"{', '.join(unable)} cannot be asked in words: {how}")


def space_for_text(store: Store, wanted: str | None, extractor: Extractor | Recorded) -> str | None:
    """The space to ask in words: the one wanted; if none is, and the default cannot, the only one that can.

    Args:
        store: closed.
        wanted: the key of a space or its beginning; None: the default.
        extractor: one that chooses the space, or changes to the recorded one.

    Raises:
        UsageError: as `check_takes_text`, or as `similarity.choose`.
    """
    with store:
        chosen = similarity.choose(store, wanted, extractor)
        able = [space.key for space in store.spaces() if takes_text(space)]
        is_free = wanted is None and extractor == Recorded()
        if is_free and len(able) == 1 and not all(takes_text(term.space) for term in chosen.terms):
            log.warning("asked in %s, the gallery's only space that takes text", able[0])
            return able[0]
        check_takes_text(store, chosen.terms)
    return wanted
