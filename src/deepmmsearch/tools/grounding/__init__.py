"""Grounding: a referring expression becomes boxes in the picture, by a detector or by a vision-language model."""

from deepmmsearch.tools.grounding.boxes import BoxDialect, OwnModelGrounder, Speaker, parse_boxes

__all__ = ["BoxDialect", "OwnModelGrounder", "Speaker", "parse_boxes"]
