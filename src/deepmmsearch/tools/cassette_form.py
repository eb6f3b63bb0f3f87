"""What a cassette is made of, and nothing else: it may be somebody else's, and opening a database is more than reading.

Views and triggers run whenever a table is read or written. A journal beside the file can name any other file, which
SQLite then deletes; a link beside it is written through.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from deepmmsearch.errors import UserError

# "DMMS", where `file` and sqlite3 look for what a database belongs to
APPLICATION = 0x444D4D53
VERSION = 2
# Version 1 had a table of turns besides, and its calls did not tell when they began.
READABLE = (1, VERSION)

SCHEMA = (
    """CREATE TABLE entries (
        key BLOB PRIMARY KEY, tool TEXT NOT NULL, provider TEXT NOT NULL, asked TEXT NOT NULL, result TEXT NOT NULL,
        images TEXT NOT NULL, calls TEXT NOT NULL, owner TEXT, created REAL NOT NULL)""",
    """CREATE TABLE failures (
        key BLOB NOT NULL, asker TEXT NOT NULL, tool TEXT NOT NULL, provider TEXT NOT NULL, asked TEXT NOT NULL,
        kind TEXT NOT NULL, message TEXT NOT NULL, calls TEXT NOT NULL, created REAL NOT NULL,
        PRIMARY KEY (key, asker))""",
    "CREATE TABLE images (sha TEXT PRIMARY KEY, png BLOB NOT NULL)",
)
_TURNS = "CREATE TABLE turns (asker TEXT PRIMARY KEY, seconds REAL NOT NULL, created REAL NOT NULL)"

LATEST = 253402300799.0
"""The last second that a calendar knows, in Unix time."""
_TEXTS = {
    "entries": "tool provider asked result images calls",
    "failures": "asker tool provider asked kind message calls",
}
_JOURNAL_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")


def refuse_neighbours(path: Path) -> None:
    """Before a database is opened. Raises UserError for links beside it, and for a journal that names other files."""
    for beside in (Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal", "-lock")):
        if beside.is_symlink():
            raise UserError(f"{beside} is a link, through which SQLite would write. Copy the cassette alone.")
    journal = Path(f"{path}-journal")
    try:
        content = journal.read_bytes()[-8:]
    except FileNotFoundError:
        return
    if content == _JOURNAL_NAMES_ANOTHER:
        raise UserError(f"{journal} names another file, which SQLite would delete. Copy the cassette alone.")


def refuse_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Raises UserError for anything but the tables of a cassette."""
    known = {_squeezed(sql) for sql in (*SCHEMA, _TURNS)}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if not ((kind == "table" and _squeezed(sql) in known) or (kind == "index" and sql is None)):
            raise UserError(f"{path} holds the {kind} {str(name)[:60]!r}, which no cassette has. Give another file.")


def refuse_values(connection: sqlite3.Connection, path: Path) -> None:
    """SQLite keeps any kind of value in any column. Raises UserError for one of another kind than its column's, and for
    times that no calendar knows."""
    wrong = {"images": "typeof(sha) != 'text' OR typeof(png) != 'blob'"}
    for table, texts in _TEXTS.items():
        checks = [f"typeof({name}) != 'text'" for name in texts.split()]
        checks += ["typeof(key) != 'blob'", "typeof(created) NOT IN ('real', 'integer')"]
        checks += [f"created NOT BETWEEN 0 AND {LATEST}"]
        checks += ["typeof(owner) NOT IN ('text', 'null')"] if table == "entries" else []
        wrong[table] = " OR ".join(checks)
    for table, check in wrong.items():
        if connection.execute(f"SELECT 1 FROM {table} WHERE {check} LIMIT 1").fetchone():
            raise UserError(f"{path} holds {table} with values that no cassette has. Give another file.")


def _squeezed(sql: str | None) -> str:
    return re.sub(r"\s+", " ", sql or "")
