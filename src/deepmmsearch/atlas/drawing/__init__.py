"""Pictures of the invented world: flags, scenes, buildings, portraits. All are drawn from a seed with PIL.

A scene has one to five flags in its six cells, each on a carrier; one cell may hold a bare carrier. The model sees a
quarter of that size; crops are cut from the original.
"""

from deepmmsearch.atlas.drawing.emblems import EMBLEMS
from deepmmsearch.atlas.drawing.flags import (
    COLOURS,
    FAMOUS_LAYOUTS,
    LAYOUTS,
    Flag,
    draw_flag,
    famous_flags,
    flag_split,
    lookalike,
    random_flag,
)
from deepmmsearch.atlas.drawing.scenes import CARRIERS, POSITIONS, SCENE, Placed, draw_scene, soften
from deepmmsearch.atlas.drawing.sights import BUILDINGS, draw_building, draw_portrait

__all__ = [
    "BUILDINGS",
    "CARRIERS",
    "COLOURS",
    "EMBLEMS",
    "FAMOUS_LAYOUTS",
    "LAYOUTS",
    "POSITIONS",
    "SCENE",
    "Flag",
    "Placed",
    "draw_building",
    "draw_flag",
    "draw_portrait",
    "draw_scene",
    "famous_flags",
    "flag_split",
    "lookalike",
    "random_flag",
    "soften",
]
