"""What comes back from outside: errors by kind, and bodies read within bounds.

Messages name hosts and reasons alone: addresses, headers, bodies and the texts of other libraries can hold keys.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from deepmmsearch.errors import ToolError
from deepmmsearch.reading.charset import known_charset
from deepmmsearch.redaction import Redaction
from deepmmsearch.tools.addresses import Refused, read_address

if TYPE_CHECKING:
    import httpx2

EXCERPT_BYTES, EXCERPT_SECONDS = 2_000, 2.0
# what httpx decodes piece by piece; one at a time, because several multiply what little data becomes
ENCODINGS = ("", "identity", "gzip", "deflate", "br", "zstd")


class TooLarge(ToolError):
    """The reply has more bytes than asked for, as sent or as decompressed; reading stopped there."""


class TimedOut(ToolError):
    """The whole request, with resolving, redirects and body, took longer than its time."""


class Unreachable(ToolError):
    """No such host, nothing listens, or the connection broke."""


class BadReply(ToolError):
    """The reply is not what it says it is: broken compression, no JSON, no HTTP."""


class BadStatus(ToolError):
    """The server refused. `retry_after`: seconds it asks to wait, where it says so. `body`: the first bytes of its
    reply, which may repeat a key; never show it unread."""

    def __init__(self, host: str, status: int, retry_after: float | None = None, body: bytes = b"") -> None:
        wait = f", asks to wait {retry_after:g} s" if retry_after is not None else ""
        super().__init__(f"{host} answered HTTP {status}{wait}.")
        self.status, self.retry_after, self.body = status, retry_after, body


@dataclass(frozen=True)
class Response:
    """A whole reply with a status from 200 to 299. `url`: after redirects (may hold a key); `headers`: names in lower
    case, without cookies; `content`: decompressed; `wire_bytes`: of the body as it was sent; `sent_bytes`: of the
    request's body; `seconds`: with redirects and resolving."""

    status: int
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    wire_bytes: int = 0
    sent_bytes: int = 0
    seconds: float = 0.0

    @property
    def content_type(self) -> str:
        """Lower case, without parameters; "" where the server names none."""
        return media_type(self.headers.get("content-type", ""))

    @property
    def charset(self) -> str | None:
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'") or None
        return None

    def text(self) -> str:
        """In the charset the server names, else UTF-8; what cannot be decoded is replaced."""
        if self.content.startswith(b"\xef\xbb\xbf"):
            return self.content[3:].decode("utf-8", "replace")
        return self.content.decode(known_charset(self.charset or "") or "utf-8", "replace")

    def json(self) -> Any:
        """Raises BadReply."""
        try:
            return json.loads(self.content)
        # hostile JSON: too deep, or numbers of thousands of digits
        except (ValueError, RecursionError):
            found = f"{len(self.content)} bytes of {self.content_type[:80] or 'an unnamed type'}"
            raise BadReply(f"{read_address(self.url).host} answered no JSON ({found}).") from None


async def read_body(
    reply: httpx2.Response, host: str, accept: Sequence[str], max_bytes: int, redaction: Redaction
) -> bytes:
    """The decompressed body of a reply that is of a wanted type and within its bounds. Raises what `Response` is no
    good for: Refused, TooLarge, BadStatus (redacted), BadReply, Unreachable."""
    from deepmmsearch.tools.transport import WireLimit

    headers = reply.headers
    if not 200 <= reply.status_code < 300:
        said = await _excerpt(reply, redaction)
        raise BadStatus(host, reply.status_code, _retry_after(headers.get("retry-after")), said)
    found = media_type(headers.get("content-type", ""))
    if accept and found and not any(_accepts(wanted, found) for wanted in accept):
        raise Refused(f"{host} answered {found[:80]}, expected {' or '.join(accept)}.")
    if headers.get("content-encoding", "").strip().lower() not in ENCODINGS:
        raise BadReply(f"{host} answered in an encoding that is not known, or in several.")
    if (length := headers.get("content-length", "")).isdecimal() and int(length[:20]) > max_bytes:
        raise TooLarge(f"{host} answered more than {max_bytes / 1e6:g} MB.")
    content = bytearray()
    with named_errors(host):
        try:
            async for part in reply.aiter_bytes():
                content += part
                if len(content) > max_bytes:
                    raise TooLarge(f"{host} answered more than {max_bytes / 1e6:g} MB, decompressed.")
        except WireLimit:
            raise TooLarge(f"{host} answered more than {max_bytes / 1e6:g} MB.") from None
    return bytes(content)


async def _excerpt(reply: httpx2.Response, redaction: Redaction) -> bytes:
    """The first bytes of an error page, as far as they can be had: the status is what counts."""
    content = b""
    with suppress(Exception):
        async with asyncio.timeout(EXCERPT_SECONDS):
            async for part in reply.aiter_bytes():
                content += part[:EXCERPT_BYTES]
                if len(content) >= EXCERPT_BYTES:
                    break
    content = redaction.content(content[:EXCERPT_BYTES])
    # it may be cut off within a key
    return content[: len(content) - redaction.begun(content.decode("latin-1"))]


@contextmanager
def named_errors(host: str) -> Iterator[None]:
    """The library's errors as ours, by host and kind alone."""
    import httpcore2
    import httpx2

    try:
        yield
    except httpcore2.ConnectTimeout:
        raise Unreachable(f"{host} cannot be reached: the connection was not made in time.") from None
    except httpcore2.ConnectError as error:
        invalid = "CERTIFICATE_VERIFY_FAILED" in str(error)
        cause = "its certificate is not valid" if invalid else "no such host, or nothing listens there"
        raise Unreachable(f"{host} cannot be reached: {cause}.") from None
    except httpcore2.TimeoutException:
        raise TimedOut(f"{host} did not answer in time.") from None
    except httpcore2.RemoteProtocolError as error:
        # the library's word for a connection that ended before its reply: that may well pass
        if "disconnected" in str(error):
            raise Unreachable(f"{host} broke the connection.") from None
        raise BadReply(f"{host} broke off, or answered something that is not HTTP.") from None
    except httpcore2.NetworkError:
        raise Unreachable(f"{host} broke the connection.") from None
    except httpx2.DecodingError:
        raise BadReply(f"{host} answered with broken compression.") from None
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol):
        raise Refused(f"The request to {host} is refused: it cannot be written as HTTP.") from None


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _accepts(wanted: str, found: str) -> bool:
    return wanted in (found, "*/*") or (wanted.endswith("/*") and found.startswith(wanted[:-1]))


def _retry_after(header: str | None) -> float | None:
    """Seconds from a number or a date; None for what is neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
