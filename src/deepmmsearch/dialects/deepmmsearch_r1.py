"""DeepMMSearch-R1 (arXiv 2510.12801, section 3)."""

from deepmmsearch.dialects.tags import TagDialect

DIALECT = TagDialect("deepmmsearch-r1")
