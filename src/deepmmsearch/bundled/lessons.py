"""What the small base model is taught before it ever sees a tool: to read, to copy, to look, to point, to remember.

A lesson is a short conversation; its assistant turns are learnt. Names are drawn from one split, so that held-out
lessons use names that were never trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from deepmmsearch.atlas.names import Split
from deepmmsearch.bundled.lesson import Lesson
from deepmmsearch.bundled.picture_lessons import keys, listing, looking, other_picture, pointing
from deepmmsearch.bundled.text_lessons import copying, image_result, memory, phrases, reading

LESSONS: dict[str, Callable[[random.Random, Split], Lesson]] = {
    "reading": reading,
    "image_result": image_result,
    "phrases": phrases,
    "copying": copying,
    "memory": memory,
    "keys": keys,
    "listing": listing,
    "pointing": pointing,
    "looking": looking,
    "other_picture": other_picture,
}
