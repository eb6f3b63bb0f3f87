"""MMSearch-R1 (arXiv 2506.20670): image search of the whole image only, under another tag; at most three rounds."""

from deepmmsearch.dialects.tags import TagDialect
from deepmmsearch.types import Limits

DIALECT = TagDialect("mmsearch-r1", {"image_search": "search"}, regions=False, limits=Limits(calls=3))
