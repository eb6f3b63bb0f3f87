"""Grounding: a referring expression becomes boxes in the picture, by a detector or by a vision-language model."""

from deepmmsearch.tools.grounding.boxes import BoxDialect, OwnModelGrounder, Speaker, box_dialect, parse_boxes
from deepmmsearch.tools.grounding.frame import FrameError, Once, PictureCounter, check_frame

# The score below which a box is none, by kind of grounder. A detector's is the probability of a word at a box; that of
# a model is the mean probability of the tokens of its answer, or 1 where the endpoint tells none.
THRESHOLDS = {"dino": 0.3, "own": 0.5, "chat": 0.5}

__all__ = [
    "THRESHOLDS",
    "BoxDialect",
    "FrameError",
    "Once",
    "OwnModelGrounder",
    "PictureCounter",
    "Speaker",
    "box_dialect",
    "check_frame",
    "parse_boxes",
]
