"""What a cassette holds, and how it is passed on, merged and thinned out.

An exported file is JSON lines (gzip where its name ends in .gz): a head, then pictures, answers and failures, each line
with everything it needs. It is read as untrusted: hashes are computed anew, and one bad line leaves the
cassette as it was.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from deepmmsearch import images
from deepmmsearch.errors import UserError
from deepmmsearch.files import replacing
from deepmmsearch.notation import parse_json, without_halves
from deepmmsearch.tools.cassette import Cassette, Statement, hash_key, read_calls
from deepmmsearch.tools.cassette_form import LATEST, READABLE, VERSION

FORMAT = "deepmmsearch cassette"
LONGEST_LINE = 64_000_000
UNREADABLE = (OSError, EOFError, zlib.error, UnicodeDecodeError)
"""What reading a file that was zipped, or is said to be, raises."""
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_TABLES: dict[str, tuple[str, dict[str, type | tuple[type, ...]]]] = {
    "entry": (
        "entries",
        {
            "tool": str,
            "provider": str,
            "asked": str,
            "result": str,
            "images": str,
            "calls": str,
            "owner": (str, type(None)),
            "created": (int, float),
        },
    ),
    "failure": (
        "failures",
        {
            "asker": str,
            "tool": str,
            "provider": str,
            "asked": str,
            "kind": str,
            "message": str,
            "calls": str,
            "created": (int, float),
        },
    ),
}
_UNUSED_IMAGES = """DELETE FROM images WHERE sha NOT IN (SELECT value FROM entries,
    json_each('["' || replace(entries.images, ' ', '","') || '"]') WHERE entries.images != '')"""


@dataclass(frozen=True)
class Holding:
    """What is there of one tool and provider. `seconds`, `cost`: what the recorded calls took, which a rerun saves."""

    tool: str
    provider: str
    answers: int = 0
    failures: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    oldest: float = math.inf
    newest: float = -math.inf


@dataclass(frozen=True)
class Count:
    answers: int = 0
    failures: int = 0
    images: int = 0

    @property
    def sentence(self) -> str:
        return f"{self.answers} answers, {self.failures} failures, {self.images} pictures"


def holdings(cassette: Cassette) -> list[Holding]:
    """By tool and provider, those with most answers first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for table, size in (("entries", "length(result)"), ("failures", "0")):
        query = f"SELECT tool, provider, calls, created, {size} FROM {table}"
        for tool, provider, calls, created, length in cassette.rows(query):
            row = found.setdefault((tool, provider), {})
            kind = "answers" if table == "entries" else "failures"
            row[kind] = row.get(kind, 0) + 1
            row["bytes"] = row.get("bytes", 0) + length
            for call in read_calls(calls):
                if not call.cached:
                    row["seconds"] = row.get("seconds", 0.0) + call.seconds
                    row["cost"] = row.get("cost", 0.0) + call.cost
            row["oldest"] = min(created, row.get("oldest", math.inf))
            row["newest"] = max(created, row.get("newest", -math.inf))
    rows = [Holding(tool, provider, **row) for (tool, provider), row in found.items()]
    return sorted(rows, key=lambda h: (-h.answers, h.tool, h.provider))


def count(cassette: Cassette) -> Count:
    return Count(*(cassette.rows(f"SELECT count(*) FROM {t}")[0][0] for t in ("entries", "failures", "images")))


def export(cassette: Cassette, path: Path, tools: Sequence[str] = ()) -> Count:
    """Writes all of it, or what `tools` recorded, to `path`, which appears when it is whole. An export that is there is
    replaced. Raises UserError where `path` is any other file."""
    if path.exists() and not _is_export(path):
        raise UserError(f"{path} is there already, and is not an exported cassette. Give another file.")
    chosen = f"WHERE tool IN ({','.join('?' * len(tools))})" if tools else ""
    counts = dict.fromkeys(("entry", "failure", "image"), 0)
    wanted: set[str] = set()
    with replacing(path, private=True) as draft, _opened(draft, "wt", zipped=path.suffix == ".gz") as lines:
        _say(lines, {"format": FORMAT, "version": VERSION})
        for (names,) in cassette.rows(f"SELECT images FROM entries {chosen}", tools):
            wanted.update(names.split())
        for sha in sorted(wanted):
            for (png,) in cassette.rows("SELECT png FROM images WHERE sha = ?", (sha,)):
                _say(lines, {"image": sha, "png": base64.b64encode(png).decode("ascii")})
                counts["image"] += 1
        for name, (table, columns) in _TABLES.items():
            order = "ORDER BY created, asker" if "asker" in columns else "ORDER BY created, asked"
            for row in cassette.rows(f"SELECT {', '.join(columns)} FROM {table} {chosen} {order}", tools):
                _say(lines, {name: dict(zip(columns, row, strict=True))})
                counts[name] += 1
    return Count(counts["entry"], counts["failure"], counts["image"])


def merge(cassette: Cassette, path: Path) -> Count:
    """Adds an exported file; where both hold an answer, the newer one stays. All or nothing. Raises UserError."""
    before = count(cassette)
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give one that `deepmmsearch cache export` wrote.")
    try:
        cassette.transact(_statements(cassette, path))
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read ({error}). Export it again.") from None
    after = count(cassette)
    return Count(*(getattr(after, n) - getattr(before, n) for n in ("answers", "failures", "images")))


def merge_cassette(path: Path, other: Path) -> Count:
    """Adds the cassette `other` to that in `path`, which is made if it is not there, as `merge` does."""
    with TemporaryDirectory() as folder, Cassette(other, read_only=True) as opened, Cassette(path) as whole:
        exported = Path(folder, "exported.jsonl")
        export(opened, exported)
        return merge(whole, exported)


def prune(
    cassette: Cassette,
    *,
    before: float | None = None,
    tools: Sequence[str] = (),
    providers: Sequence[str] = (),
    failures_only: bool = False,
    dry: bool = False,
) -> Count:
    """Removes what was recorded before that time (Unix seconds) by these tools and providers, and pictures that no
    answer holds any more; gives what went. Without any bound, everything. `dry` only counts."""
    bounds: list[str] = []
    values: list[Any] = []
    for column, names in (("tool", tools), ("provider", providers)):
        if names:
            bounds.append(f"{column} IN ({','.join('?' * len(names))})")
            values += names
    if before is not None:
        bounds.append("created < ?")
        values.append(before)
    where = f"WHERE {' AND '.join(bounds)}" if bounds else ""
    tables = ["failures"] if failures_only else ["entries", "failures"]
    gone = {table: cassette.rows(f"SELECT count(*) FROM {table} {where}", values)[0][0] for table in tables}
    pictures = count(cassette).images
    if not dry:
        cassette.transact([*((f"DELETE FROM {table} {where}", values) for table in tables), (_UNUSED_IMAGES, ())])
        cassette.maintain("VACUUM")
        pictures -= count(cassette).images
    return Count(gone.get("entries", 0), gone["failures"], 0 if dry else pictures)


def read_age(text: str) -> float:
    """Seconds in "90", "12h", "30d", "2w". Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text.strip())
    if found is None:
        raise UserError(f"{text!r} is no length of time. Write a number with s, m, h, d or w, such as 30d.")
    return float(found[1]) * UNITS[found[2] or "s"]


def _opened(path: Path, mode: str, *, zipped: bool) -> IO[str]:
    if zipped:
        opened: IO[str] = gzip.open(path, mode, encoding="utf-8")  # type: ignore[assignment]  # noqa: SIM115
        return opened
    return path.open(mode, encoding="utf-8")


def _is_export(path: Path) -> bool:
    try:
        with _opened(path, "rt", zipped=path.suffix == ".gz") as lines:
            return bool(_row(lines.readline(LONGEST_LINE), path, 1).get("format") == FORMAT)
    except (*UNREADABLE, UserError):
        return False


def _say(lines: IO[str], row: dict[str, Any]) -> None:
    lines.write(json.dumps(row, ensure_ascii=True, separators=(",", ":")) + "\n")


def _statements(cassette: Cassette, path: Path) -> Iterator[Statement]:
    """Raises UserError at the first line that cannot be used, and at the end where a picture is missing."""
    wanted: set[str] = set()
    with _opened(path, "rt", zipped=path.suffix == ".gz") as lines:
        head = _row(lines.readline(LONGEST_LINE), path, 1)
        if head.get("format") != FORMAT:
            raise UserError(f"{path} is no exported cassette. Give a file that `deepmmsearch cache export` wrote.")
        if head.get("version") not in READABLE:
            raise UserError(
                f"{path} was exported in version {head.get('version')!r}, this is {VERSION}. Update deepmmsearch."
            )
        number, brought = 1, set()
        while line := lines.readline(LONGEST_LINE):
            number += 1
            row = _row(line, path, number)
            if "turn" in row:
                continue  # version 1
            yield _statement(row, path, number)
            brought.add(row.get("image"))
            wanted.update(row["entry"]["images"].split() if "entry" in row and "image" not in row else ())
    for sha in sorted(wanted - brought):
        if not cassette.rows("SELECT 1 FROM images WHERE sha = ?", (sha,)):
            raise UserError(f"{path} lacks the picture {sha}, so some answers could not be given. Export it again.")


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: this is no line of an exported cassette. Export it again.")
    return row


def _statement(row: dict[str, Any], path: Path, number: int) -> Statement:
    place = f"{path}, line {number}"
    if "image" in row:
        return _image_statement(row, place)
    name = next((n for n in _TABLES if n in row), None)
    if name is None:
        raise UserError(f"{place}: neither picture nor answer nor failure. Export it again.")
    table, columns = _TABLES[name]
    given = row[name]
    if not isinstance(given, dict) or set(given) != set(columns):
        raise UserError(f"{place}: a {name} has the fields {', '.join(columns)}. Export it again.")
    for column, kind in columns.items():
        if not isinstance(given[column], kind) or isinstance(given[column], bool):
            raise UserError(f"{place}: {column} is of the wrong kind. Export it again.")
        # what the database could not hold
        if isinstance(given[column], str) and given[column] != without_halves(given[column]):
            raise UserError(f"{place}: {column} is not text. Export it again.")
    if not 0 <= given["created"] <= LATEST:
        raise UserError(f"{place}: created is a time that no calendar knows. Export it again.")
    for column in ("asked", "result", "calls"):
        if column in columns:
            _refuse_unreadable(column, given[column], place)
    values = [given[column] for column in columns]
    names, key = list(columns), ["asker"]
    if "asked" in columns:
        names, values = ["key", *names], [hash_key(given["asked"]), *values]
        key = ["key"] if name == "entry" else ["key", "asker"]
    changed = ", ".join(f"{n} = excluded.{n}" for n in names if n not in key)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({','.join('?' * len(names))}) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed} WHERE excluded.created > created",
        values,
    )


def _refuse_unreadable(column: str, text: str, place: str) -> None:
    """Raises UserError for what the recorder would not read: JSON, and calls as they are kept."""
    try:
        value = read_calls(text) if column == "calls" else parse_json(text)
        if column == "asked" and not (isinstance(value, dict) and text.isascii()):
            raise ValueError
    except (UserError, ValueError):
        raise UserError(
            f"{place}: this is no line of an exported cassette ({column} cannot be read). Export it again."
        ) from None


def _image_statement(row: dict[str, Any], place: str) -> Statement:
    try:
        png = base64.b64decode(row["png"], validate=True)
        sha = images.digest(images.load(png, name="it"))
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{place}: the picture cannot be read ({error}). Export it again.") from None
    if sha != row["image"]:
        raise UserError(f"{place}: the picture is not the one it is said to be. Export it again.")
    return "INSERT OR IGNORE INTO images VALUES (?, ?)", (sha, png)
