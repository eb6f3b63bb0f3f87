"""Messages: who wrote what to whom, with what was attached; and pages that a browser saved as one (MHTML)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from email.utils import parsedate_to_datetime

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.charset import decode
from deepmmsearch.reading.composition import Composition
from deepmmsearch.reading.declared import canonical
from deepmmsearch.reading.document import Document, Origin, clean
from deepmmsearch.reading.webpage import from_html

_TOLD = ("From", "To", "Cc", "Date")
_DEEPEST = 4


def from_mail(origin: Origin, content: bytes) -> Document:
    """EML and MHTML. Raises Unreadable, MissingExtra."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    try:
        # the parser's newer form takes time that grows with the square of a header's length
        message = BytesParser().parsebytes(content)
    except RecursionError:
        raise Unreadable("too complex to read") from None
    if not message.keys():
        raise Unreadable("not a message")
    text = Composition(origin.longest)
    if told := header(message, "Snapshot-Content-Location"):
        return _saved_page(origin, message, told)
    _message(message, text, 0)
    return text.document(header(message, "Subject") or origin.name, _date(message))


def _saved_page(origin: Origin, message: Message, address: str) -> Document:
    """The page that a browser saved, with its pictures."""
    parts = [part for part in message.walk() if not part.is_multipart()]
    html = next((part for part in parts if part.get_content_type() == "text/html"), None)
    if html is None:
        raise Unreadable("a saved page without a page")
    page = from_html(Origin("html", origin.name, html.get_content_charset() or ""), _bytes(html))
    text = Composition(origin.longest)
    text.headings += page.headings
    text.add(page.text)
    pictures = {header(part, "Content-Location"): part for part in parts if part.get_content_maintype() == "image"}
    for shown in page.pictures:
        if (part := pictures.get(shown.src)) is not None:
            text.show(shown.title, _bytes(part))
    document = text.document(page.title, language=page.language)
    return replace(document, url=page.url or canonical("", address), links=page.links)


def _message(message: Message, text: Composition, depth: int) -> None:
    if subject := header(message, "Subject"):
        text.head(subject, depth + 1)
    text.add("\n".join(f"{name}: {said}" for name in _TOLD if (said := header(message, name))))
    parts = list(_parts(message))
    texts = [part for part in parts if part.get_content_maintype() == "text" and not _is_attached(part)]
    plain = next((part for part in texts if part.get_content_type() == "text/plain"), None)
    body = plain if plain is not None else next((p for p in texts if p.get_content_type() == "text/html"), None)
    if body is not None:
        text.add(readable(body.get_content_type(), _bytes(body), body.get_content_charset() or ""))
    for part in parts:
        if part is not body and part not in texts:
            _attachment(part, text, depth)


def _parts(message: Message) -> Iterator[Message]:
    """Those that hold something, of messages within it the outermost."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if part is not message and part.get_content_type() == "message/rfc822":
            yield part
        elif part.is_multipart():
            waiting += reversed([inner for inner in part.get_payload() if isinstance(inner, Message)])
        else:
            yield part


def _is_attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or bool(part.get_filename())


def _attachment(part: Message, text: Composition, depth: int) -> None:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload()
        if isinstance(inner, list) and inner and isinstance(inner[0], Message) and depth < _DEEPEST:
            _message(inner[0], text, depth + 1)
        return
    name = clean(_filename(part))
    attach(text, name, part.get_content_type(), _bytes(part), part.get_content_charset() or "")


def attach(text: Composition, name: str, kind: str, content: bytes, charset: str = "") -> None:
    """What a message brings: named, and read where it is text or a picture."""
    text.add(f"Attachment: {name}" if name else "")
    if kind.startswith("image/"):
        text.show(name, content)
    elif kind in ("text/plain", "text/html", "text/csv", "text/markdown"):
        text.add(readable(kind, content, charset))


def readable(kind: str, content: bytes, charset: str) -> str:
    """The text of a body; "" where there is none. Senders declare wrong charsets: it is guessed then."""
    try:
        if kind == "text/html":
            return from_html(Origin("html", "", charset), content).text
        return decode(content, charset).text
    except Unreadable:
        return content.decode("latin-1") if kind != "text/html" and b"\0" not in content else ""


def _filename(part: Message) -> str:
    try:
        return str(make_header(decode_header(str(part.get_filename() or "")[:500])))
    except Exception:  # as below
        return ""


def header(message: Message, name: str) -> str:
    try:
        # as others wrote it, in UTF-8 where they did not say
        written = str(message.get(name, "")).encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:2_000]
        return clean(str(make_header(decode_header(written))))
    except Exception:  # the standard library meets headers that it cannot take apart
        return ""


def _date(message: Message) -> str:
    try:
        return parsedate_to_datetime(header(message, "Date")).date().isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def _bytes(part: Message) -> bytes:
    try:
        found = part.get_payload(decode=True)
    except Exception:  # as above
        return b""
    return found if isinstance(found, bytes) else b""
