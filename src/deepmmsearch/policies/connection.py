"""The client for model endpoints: its settings say where a request goes, not the environment, nor the server."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deepmmsearch.errors import MissingExtra, UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY_VARIABLE = "OPENAI_API_KEY"
OFFICIAL = "https://api.openai.com/v1"


def connect(
    base_url: str, key: str, *, timeout: float, retries: int, proxy: str | None = None, redirects: bool = False
) -> AsyncOpenAI:
    """A client that goes straight to `base_url`, or through `proxy`: proxies of the environment are not used, and a
    reply that names another address is followed with `redirects` alone. `timeout`: seconds for one request.

    Raises MissingExtra.
    """
    try:
        import openai
    except ImportError:
        raise MissingExtra("An OpenAI-compatible endpoint", "chat") from None
    http = openai.DefaultAsyncHttpxClient(
        base_url=base_url,
        timeout=timeout,
        proxy=proxy,
        trust_env=False,
        verify=_certificates(),
        follow_redirects=redirects,
    )
    headers: Any = {} if base_url == OFFICIAL else _without_openais(key, openai.Omit())
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base_url,
        timeout=timeout,
        max_retries=retries,
        http_client=http,
        default_headers=headers,
    )


def checked_proxy(proxy: str | None) -> str | None:
    """Raises UserError for what is not the address of a proxy; it may hold a password, so no message shows it."""
    if proxy is None:
        return None
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UserError("The proxy cannot be used. Give an address such as http://127.0.0.1:3128.")
    return proxy


def _certificates() -> ssl.SSLContext | bool:
    """Those that the environment names, where it does: they change whom to believe, not where a request goes."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(cafile=file, capath=folder) if file or folder else True


def _without_openais(key: str, omitted: object) -> dict[str, object]:
    """Headers that OpenAI's client takes from the environment for any endpoint, left out for those that are not
    OpenAI's own: organisation, project, and what OPENAI_CUSTOM_HEADERS holds."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    custom = {line.partition(":")[0].strip(): omitted for line in lines if ":" in line}
    keys = {name: f"Bearer {key or 'none'}" for name in custom if name.lower() == "authorization"}
    return {"OpenAI-Organization": omitted, "OpenAI-Project": omitted, **custom, **keys}
