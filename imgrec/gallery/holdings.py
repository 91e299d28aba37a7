"""A description of what a store holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from imgrec.gallery import recorded
from imgrec.kinds import Store
from imgrec.search import indexes


def describe(store: Store) -> dict[str, Any]:
    """A store's spaces, fusions, counts, sizes, indexes and failed files, as plain data."""
    records = Counter({"images": 0, "missing": 0})
    contents = set()
    for record in store.records():
        records["missing" if record.missing else "images"] += 1
        contents.add(record.digest)
    default = recorded.default_key(store) if store.spaces() else None
    failures = sorted(store.failures(), key=lambda failure: failure.path)
    spaces = []
    for space in store.spaces():
        held = store.digests(space)
        _, some = store.vectors(space, list(held)[:1])
        spaces.append(
            {
                "key": space.key,
                "extractor": space.extractor,
                "vectors": len(held),
                "dim": some.shape[1],
                "bytes": 4 * len(held) * some.shape[1],
                "options": space.options,
                "identity": space.identity,
                "summary": recorded.describe(space),
            }
        )
    return {
        "store": store.location,
        "bytes": store.size(),
        "paths": store.keeps,
        **records,
        "contents": len(contents),
        "default": default,
        "spaces": spaces,
        "fusions": [
            {"key": name, **fusion_spec, "summary": recorded.describe_fusion(name, fusion_spec)}
            for name, fusion_spec in recorded.fusion_specs(store).items()
        ],
        "indexes": list(indexes.kept(store)),
        "failed": [{"path": failure.path, "reason": failure.reason} for failure in failures],
    }
