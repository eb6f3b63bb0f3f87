"""Addresses in object storage, and what answers behind them, through fsspec. Keys come from the environment alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from deepmmsearch.errors import Failed, MissingExtra, UserError
from deepmmsearch.notation import without_halves
from deepmmsearch.redaction import Redaction, without_secrets

SECRET = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HF_TOKEN",
)
VARIABLES = (*SECRET, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_ENDPOINT")
"""What reaches the storage, beside what lies in files of the user's home."""
_ADDRESS = re.compile(r"(s3|gs|gcs|hf|memory|file):/+(.*)", re.IGNORECASE | re.DOTALL)
_SAID = 200


def address_of(place: str | Path) -> str | None:
    """The address that a place is, also where it was taken for a path, which has one slash less; None for a place on
    this machine. Raises UserError for one that names nothing, or holds a key or password."""
    found = _ADDRESS.fullmatch(str(place))
    if found is None:
        return None
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    if not rest:
        raise UserError(f"{scheme}:/// names no bucket and no folder. Write it like {scheme}://bucket/folder.")
    if rest != without_halves(rest):
        raise UserError(f"{scheme}://{without_halves(rest)} has letters that are not UTF-8. Check the address.")
    if "?" in rest or "::" in rest or (scheme != "hf" and "@" in rest.partition("/")[0]):
        raise UserError(
            f"An address such as {scheme}://bucket/folder holds no key, password or parameter. Keys come from the "
            "environment."
        )
    if ".." in rest.split("/"):
        raise UserError(f"{scheme}://{rest} has .. in it. Write the folder that it leads to.")
    return f"{scheme}://{'/' if scheme == 'file' else ''}{rest}"


def filesystem(address: str) -> tuple[Any, str]:
    """What fsspec has for the address, and the path there. Raises MissingExtra, UserError."""
    needs = partial(MissingExtra, f"Reading and writing {address.partition(':')[0]}://", "storage")
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise needs() from None
    scheme, _, rest = address.partition("://")
    if scheme in ("s3", "gs", "gcs") and "/" not in rest:
        raise UserError(f"{address} is a whole bucket. Give a folder in it, such as {address}/mine.")
    # listings of a moment ago would hide what another machine has put there
    given: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "file":
        given["auto_mkdir"] = True
    with speaking(address):
        try:
            fs, path = url_to_fs(address, **given)
        except ImportError:
            raise needs() from None
    return fs, str(path).rstrip("/")


@contextmanager
def speaking(address: str) -> Iterator[None]:
    """Says in one sentence what went wrong there, without the keys. Raises UserError, Failed."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except FileNotFoundError:
        raise UserError(f"There is nothing at {address}. Check the address.") from None
    # each of the file systems raises what its own client does
    except Exception as error:
        secrets = Redaction([os.environ[name] for name in SECRET if os.environ.get(name)])
        said = without_secrets(secrets.text(f"{type(error).__name__}: {error}"))[:_SAID]
        raise Failed(
            f"{address} cannot be used ({said}). Check the address and the keys in the environment, and run again."
        ) from None


def inner_path(name: str) -> Path:
    """A relative path, as one to write to. Raises UserError for one that could lead elsewhere: it was written by
    whoever wrote there."""
    parts = PurePosixPath(name).parts
    odd = name.startswith("/") or not parts or name != without_halves(name)
    if odd or any(part.startswith(".") or set(part) & set("\\:\0") for part in parts):
        raise UserError(f"A file in object storage is called {name[:120]!r}, which is not a name that is written here.")
    return Path(*parts)
