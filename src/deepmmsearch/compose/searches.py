"""Text and image search of a toolbox: providers in their order, each with a client of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deepmmsearch.compose.tool_settings import NetworkSettings, ProviderSettings
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.index_place import Place
from deepmmsearch.redaction import public_address, secrets_in
from deepmmsearch.tools.addresses import HostRules, Refused, read_address
from deepmmsearch.types import Hit

if TYPE_CHECKING:
    from deepmmsearch.tools.failover import FailOver
    from deepmmsearch.tools.http import GuardedClient
    from deepmmsearch.tools.providers.catalog import Kind
    from deepmmsearch.tools.recorder import Recorder


_SUCH = "http://127.0.0.1:8888"
OF_A_SITE = 8
"""Connections at once to what strangers name, below one domain."""


@dataclass
class Searches:
    network: NetworkSettings
    index: Place | None
    environ: Mapping[str, str]
    encoders: Sequence[str] = ()
    # providers by name and settings, so that an index is opened once for words and pictures
    made: dict[tuple[str, str], Any] = field(default_factory=dict)
    # what optional providers lack
    left_out: list[str] = field(default_factory=list)

    def search(self, kind: Kind, listed: Sequence[ProviderSettings], recorder: Recorder | None) -> Any:
        if not listed:
            return None
        if recorder is None:
            return self.failover(kind, listed)
        from deepmmsearch.tools.recorded import RecordedImageSearch, RecordedTextSearch

        tool = None if recorder.mode == "replay" else self.failover(kind, listed)
        if tool is None and recorder.mode != "replay":
            return None
        known: dict[str, Any] = {
            "provider": "+".join(p.name for p in listed),
            "settings": [self.options(p) for p in listed],
        }
        network = self.network
        if network.allow_hosts or network.block_hosts:
            known["domains"] = [list(network.allow_hosts), list(network.block_hosts)]
        return (RecordedTextSearch if kind == "text" else RecordedImageSearch)(tool, recorder, known)

    def failover(self, kind: Kind, listed: Sequence[ProviderSettings]) -> FailOver | None:
        """None where all of them are optional and none has what it needs."""
        from deepmmsearch.tools.failover import FailOver, Lane, Pace
        from deepmmsearch.tools.providers.catalog import MissingKey

        lanes = []
        for provider in listed:
            try:
                tool = self.provider(kind, provider)
            except (MissingKey, MissingExtra) as error:
                if not provider.optional:
                    raise
                self.left_out.append(str(error))
                continue
            per_second = provider.per_second or getattr(tool, "per_second", None)
            concurrency = provider.concurrency or int(getattr(tool, "concurrency", Pace.concurrency))
            pace = Pace(per_second=per_second, concurrency=concurrency)
            lanes.append(Lane(provider.name, tool, "text_search" if kind == "text" else "image_search", pace))
        return FailOver(lanes, keep=self.keep) if lanes else None

    def provider(self, kind: Kind, provider: ProviderSettings) -> Any:
        from deepmmsearch.tools.providers import catalog

        options = self.options(provider)
        if provider.name == "local" and self.encoders:
            # not among the options, by which a recording is found again
            options.setdefault("encoders", self.encoders)
        key = (provider.name, repr(sorted(options.items())))
        kinds = catalog.kinds(provider.name)
        if kind not in kinds or key not in self.made:
            self.made[key] = catalog.make(
                provider.name, kind, options, self.client, self.environ, provider.key_variable
            )
        return self.made[key]

    def options(self, provider: ProviderSettings) -> dict[str, Any]:
        options = provider.options
        if provider.name == "local" and self.index is not None:
            options.setdefault("index", str(self.index))
        return options

    def keep(self, hit: Hit) -> bool:
        """May this run see the hit? What lies on a domain that it may not fetch from is not told of either."""
        network = self.network
        if not (network.allow_hosts or network.block_hosts) or not hit.url.lower().startswith(("http://", "https://")):
            return True
        try:
            HostRules.read(network.allow_hosts, network.block_hosts, ()).check(read_address(hit.url))
        except Refused:
            return False
        return True

    def client(self, own: Sequence[str] = (), known: Sequence[str] = (), keys: Sequence[str] = ()) -> GuardedClient:
        """The client of a provider. `own`: its addresses in the recipe, whose hosts may be private, for it alone;
        `known`: all its addresses, which no list of allowed domains has to name; `keys`: what it is sent. What its
        replies name is asked for from `outside`, which knows none of these."""
        from deepmmsearch.tools.http import GuardedClient

        network = self.network
        limits: dict[str, Any] = {"timeout": network.timeout, "max_bytes": network.max_bytes}
        outside = GuardedClient(
            network.allow_hosts, network.block_hosts, network.allow_private, of_a_site=OF_A_SITE, **limits
        )
        if not (own or known or keys):
            return outside
        allowed = (*network.allow_hosts, *map(_host, known)) if network.allow_hosts else ()
        private = (*network.allow_private, *map(_host_and_port, own))
        secrets = [*keys, *(secret for address in own for secret in secrets_in(address))]
        return GuardedClient(allowed, network.block_hosts, private, outside=outside, secrets=secrets, **limits)


def _host(address: str) -> str:
    return _host_and_port(address).rpartition(":")[0].strip("[]")


def _host_and_port(address: str) -> str:
    """Raises UserError for what is not the address of a host."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if not host:
        raise UserError(f"{public_address(address)!r} is not the address of a provider. Give one such as {_SUCH}.")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
