"""The pictures of a commit, made ready to be searched once."""

from __future__ import annotations

from deepmmsearch.engine.image import Gallery
from deepmmsearch.engine.picture_segment import PictureSegment
from deepmmsearch.engine.storage import Snapshot


def gallery_of(snapshot: Snapshot) -> Gallery | None:
    with snapshot.lock:
        if "gallery" not in snapshot.derived:
            opened = [(s, arrays) for s, arrays in snapshot.opened("pictures") if not s.dead.all()]
            known = snapshot.store.derived
            segments = {s.name: known.get(s.name) or PictureSegment(arrays) for s, arrays in opened}
            snapshot.store.derived = segments
            dead = [s.dead for s, _ in opened]
            snapshot.derived["gallery"] = Gallery(list(segments.values()), dead) if opened else None
        gallery: Gallery | None = snapshot.derived["gallery"]
        return gallery
