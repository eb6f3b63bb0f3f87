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
from deepmmsearch.errors import UserError
from deepmmsearch.index_place import Place, place
from deepmmsearch.redaction import public_address, without_secrets


def resolved(given: str | os.PathLike[str]) -> Place:
    """An address as it is, a folder by its whole path. UserError for what is neither."""
    found = place(given if isinstance(given, str) else Path(given))
    return found.resolve() if isinstance(found, Path) else found


def opened(where: Place) -> BackendStore:
    """UserError when there is no index, or one of another version."""
    if isinstance(where, Path):
        if not exists(where) and any(where.glob(f"*{SUFFIX}")):
            raise UserError(f"The index in {where} is one in LanceDB. Name it as lancedb://{where}")
        return Store(where)
    from deepmmsearch.engine.table_store import TableStore

    return TableStore(_engine(where, read_only=True))


def created(where: Place, settings: Mapping[str, Any]) -> BackendStore:
    """A new index. UserError where there is something already."""
    if isinstance(where, Path):
        return Store.create(where, settings)
    from deepmmsearch.engine.table_store import TableStore

    return TableStore.create(_engine(where), settings)


def exists(where: Place) -> bool:
    if isinstance(where, Path):
        return (where / "meta.json").exists()
    from deepmmsearch.engine import table_store

    engine = _engine(where)
    with engine.intact():
        return table_store.exists(engine)


def _engine(address: str, read_only: bool = False) -> TableEngine:
    if without_secrets(address) != address:
        raise UserError(
            f"The address {public_address(address)} holds a password or key. Give that in the environment: "
            "docs/engine.md names the variables."
        )
    scheme, _, rest = address.partition("://")
    if not rest.strip("/"):
        raise UserError(f"The address {address} names no place. Give one such as {scheme}://my-index.")
    if scheme == "milvus":
        from deepmmsearch.engine.milvus_tables import MilvusEngine

        return MilvusEngine(address)
    from deepmmsearch.engine.lancedb_tables import LanceEngine

    return LanceEngine(address, rest if scheme == "lancedb" else address, read_only)
