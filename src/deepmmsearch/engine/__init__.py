"""The local search engine: a folder of documents and pictures, indexed and searched offline."""

from deepmmsearch.engine.index import Index, IndexSettings

__all__ = ["Index", "IndexSettings"]
