"""What a page is filtered by: its site, folder, kind of file, and language."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

LANGUAGE, SITE, FOLDER, KIND = "language:", "site:", "folder:", "filetype:"
_MOST_FOLDERS = 20


def page_tags(file: str, url: str, language: str) -> list[str]:
    """The tags of a page's passages."""
    path = PurePosixPath(file)
    tags = [LANGUAGE + language, KIND + path.suffix.lower().lstrip(".")]
    tags += [SITE + site for site in sites(url)]
    tags += [FOLDER + folder for folder in _folders(path)]
    return tags


def sites(url: str) -> Iterator[str]:
    """The host of an address, and the domains that it is in: en.example.org, example.org, org."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # https://[ and the like
        return
    labels = host.removeprefix("www.").split(".")
    for start in range(len(labels)):
        if labels[start]:
            yield ".".join(labels[start:])


def _folders(path: PurePosixPath) -> list[str]:
    """Each folder that the file is in, by its whole path."""
    return [folder.as_posix().lower() for folder in path.parents if folder.name][:_MOST_FOLDERS]
