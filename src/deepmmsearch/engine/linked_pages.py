"""Where pages of an index lead: kept as they are written, and given as addresses of other pages of it.

Strangers wrote them, so they are data: nothing is fetched, and a link to what the index does not hold is not given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from posixpath import dirname, join, normpath, splitext
from urllib.parse import unquote, urljoin, urlsplit

from deepmmsearch.engine.backend import BackendSnapshot, BackendWriter
from deepmmsearch.engine.walk import file_url
from deepmmsearch.reading.file_kinds import PAGES, PICTURES
from deepmmsearch.types import Link

MOST, MOST_CHARACTERS = 300, 40_000
"""Of a page: links, and characters of them all."""
KIND = "links"
# what stands for a page whose link names a folder, or leaves out how its file ends
_ENDINGS = ("", ".html", ".md", ".rst", "/index.html", "/index.md", "/README.md")


def keep_links(writer: BackendWriter, file: str, links: Sequence[Link], within: str) -> None:
    kept, room = [], MOST_CHARACTERS
    for link in links[:MOST]:
        room -= len(link.text) + len(link.url)
        if room >= 0:
            kept.append((link.text, link.url))
    if kept:
        writer.add(KIND, file, {"within": within, "links": kept}, ref=_ref(file), within=within)


def links_of_page(snapshot: BackendSnapshot, file: str, url: str) -> tuple[Link, ...]:
    """Those into pages that the index holds, each once."""
    found: dict[str, Link] = {}
    for record in snapshot.find("ref", _ref(file), 1):
        within = str(record.content["within"])
        for text, target in record.content["links"][:MOST]:
            held = next((a for a in _addresses(file, url, within, target) if _holds(snapshot, *a)), None)
            if held is not None and held[1] != file:
                address = held[1] if held[0] == "url" else file_url(held[1])
                found.setdefault(address, Link(str(text), address))
    return tuple(found.values())


def _ref(file: str) -> str:
    return f"links:{file}"


def _holds(snapshot: BackendSnapshot, field: str, value: str) -> bool:
    return any(True for _ in snapshot.find(field, value, 1))


def _addresses(file: str, url: str, within: str, target: str) -> Iterator[tuple[str, str]]:
    """What a link may mean, the likeliest first: ("file", its id) or ("url", an address of the web)."""
    try:
        address, web = urlsplit(target), urljoin(url, target)
        on_web = urlsplit(web).scheme in ("http", "https")
    except ValueError:  # https://[ and the like
        return
    if not address.scheme and not address.netloc and address.path:
        yield from (("file", name) for name in _names(file, within, unquote(address.path)))
    if on_web:
        yield "url", web.partition("#")[0]


def _names(file: str, within: str, path: str) -> Iterator[str]:
    own = file.removeprefix(f"{within}#") if within else file
    # an absolute path is relative to a site's root, which may be any folder above the page
    folders = [dirname(own)]
    while path.startswith("/") and folders[-1] not in ("", "/"):
        folders.append(dirname(folders[-1]))
    for folder in folders:
        name = normpath(join(folder, path.lstrip("/") or "."))
        if name.startswith("..") or splitext(name)[1].lower() in PICTURES:
            continue
        endings = _ENDINGS[:1] if splitext(name)[1].lower() in PAGES else _ENDINGS
        yield from (f"{within}#{name}{ending}" if within else f"{name}{ending}" for ending in endings)
