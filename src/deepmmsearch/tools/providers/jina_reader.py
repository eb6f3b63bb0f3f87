"""Jina reader (r.jina.ai): fetches and renders pages elsewhere, also those made by scripts."""

from __future__ import annotations

import re
from typing import Any

from deepmmsearch.agent.metering import calling
from deepmmsearch.agent.protocols import Page
from deepmmsearch.errors import ToolError
from deepmmsearch.tools.addresses import blocked, read_address
from deepmmsearch.tools.providers.api import Api, Client, ProviderError, plain, web_address

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TARGET_ERROR = re.compile(r"Target URL returned error (\d{3})")


class JinaReader:
    """Pages through r.jina.ai, rendered there; works without a key at a lower rate.

    PageReader (`POST /`). `longest`: characters of a page that are kept; `timeout`: seconds, rendering included.
    """

    name = "jina-reader"
    kinds = ("page",)
    key_variable = "JINA_API_KEY"

    def __init__(
        self,
        client: Client,
        key: str = "",
        url: str = "https://r.jina.ai/",
        longest: int = 200_000,
        timeout: float = 30.0,
    ) -> None:
        self._api = Api("Jina reader", client, self.key_variable, (key,) if key else ())
        self._url, self._longest = url, longest
        self._headers = {
            "Accept": "application/json",
            "X-Retain-Images": "none",
            "X-Retain-Links": "text",
            "X-Timeout": f"{timeout:.0f}",
            **({"Authorization": f"Bearer {key}"} if key else {}),
        }

    async def read(self, url: str) -> Page:
        """Raises ToolError with the reason."""
        target = read_address(url)
        # It would be refused there too; but the addresses of this network are nobody else's business.
        if "." not in target.host or blocked(target.host) not in (None, "unreadable"):
            raise ToolError(f"{target.host} is refused: it is no public host.")
        with calling("reader", self.name):
            answer = await self._api.json("POST", self._url, headers=self._headers, data={"url": target.url})
            return self._page(answer.get("data"), target.url, target.host)

    def _page(self, data: Any, url: str, host: str) -> Page:
        if not isinstance(data, dict):
            raise ProviderError("Jina reader answered without a page.", "answer")
        failed = _TARGET_ERROR.search(plain(data.get("warning"), 300))
        if failed:
            raise ToolError(f"{host} answered HTTP {failed[1]}.")
        content = data.get("content")
        text = content.strip()[: self._longest] if isinstance(content, str) else ""
        if not text:
            raise ToolError(f"The page of {host} cannot be read: Jina reader found no text in it.")
        date = _DATE.match(plain(data.get("publishedTime"), 40))
        title = plain(data.get("title"), 300) or host
        return Page(web_address(data.get("url")) or url, title, text, date=date[0] if date else None)
