"""Which back end keeps an index, by where it lies.

FOLDER: the local engine. lancedb://FOLDER, s3://, gs://, az://: LanceDB. milvus://HOST:PORT/NAME: a Milvus server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmmsearch.engine.backend import BackendStore
from deepmmsearch.engine.engine_tables import SUFFIX, TableEngine
from deepmmsearch.engine.storage import Store
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.index_place import Place, is_address
from deepmmsearch.redaction import public_address, without_secrets

OBJECT_STORAGE = ("s3", "gs", "az")
ENGINES = ("lancedb", *OBJECT_STORAGE, "milvus")


def resolved(place: str | os.PathLike[str]) -> Place:
    """An address as it is, a folder by its whole path."""
    return place if isinstance(place, str) and is_address(place) else Path(place).resolve()


def opened(place: Place) -> BackendStore:
    """UserError when there is no index, or one of another version."""
    if isinstance(place, Path):
        if not exists(place) and any(place.glob(f"*{SUFFIX}")):
            raise UserError(f"The index in {place} is one in LanceDB. Name it as lancedb://{place}")
        return Store(place)
    from deepmmsearch.engine.table_store import TableStore

    return TableStore(_engine(place, read_only=True))


def created(place: Place, settings: Mapping[str, Any]) -> BackendStore:
    """A new index. UserError where there is something already."""
    if isinstance(place, Path):
        return Store.create(place, settings)
    from deepmmsearch.engine.table_store import TableStore

    return TableStore.create(_engine(place), settings)


def exists(place: Place) -> bool:
    if isinstance(place, Path):
        return (place / "meta.json").exists()
    from deepmmsearch.engine import table_store

    engine = _engine(place)
    with engine.intact():
        return table_store.exists(engine)


def _engine(address: str, read_only: bool = False) -> TableEngine:
    if without_secrets(address) != address:
        raise UserError(
            f"The address {public_address(address)} holds a password or key. Give that in the environment: "
            "docs/engine.md names the variables."
        )
    scheme, _, rest = address.partition("://")
    if scheme not in ENGINES:
        raise UnknownName("kind of index", f"{scheme}://", [f"{engine}://" for engine in ENGINES])
    if not rest.strip("/"):
        raise UserError(f"The address {address} names no place. Give one such as {scheme}://my-index.")
    if scheme == "milvus":
        from deepmmsearch.engine.milvus_tables import MilvusEngine

        return MilvusEngine(address)
    from deepmmsearch.engine.lancedb_tables import LanceEngine

    return LanceEngine(address, rest if scheme == "lancedb" else address, read_only)
