"""Toolboxes from settings: which providers in which order, who reads, grounds and summarises, what is recorded, and
what may be spent.

A file for `--tools` holds these settings alone; an experiment's recipe holds them under `tools:`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deepmmsearch.agent import Toolbox
from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.tools.base import Grounder, PageReader, Summarizer
from deepmmsearch.tools.metering import PRICES, Budget, Ledger, Purse
from deepmmsearch.types import Policy

if TYPE_CHECKING:
    from deepmmsearch.tools.failover import FailOver, SearchTool
    from deepmmsearch.tools.http import GuardedClient
    from deepmmsearch.tools.providers.catalog import Catalog, Kind
    from deepmmsearch.tools.recorder import Recorder

KINDS = ("none", "local", "providers")
READERS = ("none", "local", "web", "jina")
SUMMARIZERS = ("none", "extractive")
GROUNDERS = ("none", "own", "dino", "chat")
BOX_DIALECTS = ("qwen2.5-vl", "qwen3-vl")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProviderSettings(BaseModel):
    """One provider in a list; what is not named here is a setting of its own (`deepmmsearch tools` shows them).

    `per_second`, `concurrency`: how fast and how often at once it is asked. `key_variable`: the environment variable
    of its key, where it is not the usual one. `optional`: leave it out where its key or extra is missing.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    per_second: float | None = Field(default=None, gt=0)
    concurrency: int = Field(default=16, ge=1)
    key_variable: str | None = None
    optional: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class NetworkSettings(_Settings):
    """`allow_hosts`, `block_hosts`: domains that this run may and may not fetch from. `allow_private`: hosts in private
    networks that may be fetched by all tools; a provider's own `url` is allowed to it alone. `timeout` in seconds."""

    allow_hosts: tuple[str, ...] = ()
    block_hosts: tuple[str, ...] = ()
    allow_private: tuple[str, ...] = ()
    timeout: float = Field(default=20.0, gt=0)
    max_bytes: int = Field(default=10_000_000, ge=1)


class RecorderSettings(_Settings):
    """`mode`: live, cache or replay (`tools.recorder`). `cassette`: the file. `ttl`: seconds by tool (text_search,
    image_search, grounder, reader, summarizer) for which `cache` takes an answer; without, for ever."""

    mode: str = "cache"
    cassette: Path | None = None
    ttl: dict[str, float] = Field(default_factory=dict)


class BudgetSettings(_Settings):
    """Most calls and most US dollars, for each question and for the whole run; None is without limit."""

    question_calls: int | None = Field(default=None, ge=0)
    question_money: float | None = Field(default=None, ge=0)
    run_calls: int | None = Field(default=None, ge=0)
    run_money: float | None = Field(default=None, ge=0)


class GroundingSettings(_Settings):
    """`kind`: the policy's own model (own), Grounding DINO (dino), another model behind an endpoint (chat), or none.
    `model`, `base_url`, `key_variable`: for dino and chat. `dialect`: of a vision-language model's boxes; None takes it
    from the policy's card."""

    kind: str = "own"
    model: str | None = None
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    dialect: str | None = None
    device: str = "auto"


class SummarizerSettings(_Settings):
    """`kind`: sentences of the page that serve the query (extractive), or none: the hit's own text."""

    kind: str = "extractive"
    sentences: int = Field(default=2, ge=1)


class ReaderSettings(_Settings):
    """`kind`: what reads the pages behind hits: the local index (local), this machine (web), Jina's service, which also
    renders what scripts make (jina), or none: hits speak for themselves. `timeout` in seconds; `longest`: characters of
    a page that are kept; `workers`: processes that take pages apart (web)."""

    kind: str | None = None
    timeout: float = Field(default=15.0, gt=0)
    longest: int = Field(default=200_000, ge=100)
    workers: int = Field(default=2, ge=1)


class ToolSettings(_Settings):
    """What the policy may use.

    `kind`: none, local (an index of one's own for everything), or providers, which is meant where `text` or `image` is
    given: providers in the order in which they are asked. `index`: for local tools. `prices`: US dollars a call, by
    provider, where they are not the usual ones (`tools.metering.PRICES`). For the numbers see `agent.Toolbox`.
    """

    kind: str = "local"
    index: Path | None = None
    text: tuple[ProviderSettings, ...] = ()
    image: tuple[ProviderSettings, ...] = ()
    reader: ReaderSettings = ReaderSettings()
    summarizer: SummarizerSettings = SummarizerSettings()
    grounding: GroundingSettings = GroundingSettings()
    network: NetworkSettings = NetworkSettings()
    recorder: RecorderSettings = RecorderSettings(mode="live")
    budget: BudgetSettings = BudgetSettings()
    prices: dict[str, float] = Field(default_factory=dict)
    text_hits: int = Field(default=5, ge=1)
    image_hits: int = Field(default=5, ge=1)
    image_lines: int = Field(default=3, ge=1)
    min_passage: int = Field(default=400, ge=0)
    pages: int | None = Field(default=None, ge=1)
    box_threshold: float = 0.3
    crop_padding: float = Field(default=0.05, ge=0)
    thumbnails: bool = False

    @field_validator("text", "image", mode="before")
    @classmethod
    def _names(cls, listed: Any) -> Any:
        """A provider without settings may be written as its name alone."""
        if isinstance(listed, str | dict):
            listed = [listed]
        return (
            [{"name": p} if isinstance(p, str) else p for p in listed] if isinstance(listed, list | tuple) else listed
        )

    @field_validator("reader", "summarizer", mode="before")
    @classmethod
    def _kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @field_validator("grounding", mode="before")
    @classmethod
    def _dialect_alone(cls, given: Any) -> Any:
        if given is None:
            return {}
        if isinstance(given, str):
            return {"kind": given} if given in GROUNDERS else {"dialect": given}
        return given

    @model_validator(mode="after")
    def _meant(self) -> ToolSettings:
        if "kind" not in self.model_fields_set and (self.text or self.image):
            self.kind = "providers"
        return self


def build_toolbox(settings: ToolSettings, policy: Policy, environ: Mapping[str, str] = os.environ) -> Toolbox:
    """Raises UnknownName for an unknown kind, provider, setting or dialect; UserError for a missing key, index or
    setting; MissingExtra."""
    for kind, found, known in (
        ("tools", settings.kind, KINDS),
        ("reader", settings.reader.kind or "none", READERS),
        ("summarizer", settings.summarizer.kind, SUMMARIZERS),
        ("grounding", settings.grounding.kind, GROUNDERS),
    ):
        if found not in known:
            raise UnknownName(kind, found, known)
    _check_dialect(settings.grounding.dialect)
    if settings.kind == "none":
        return Toolbox()
    return _Assembly(settings, environ).toolbox(policy)


def make_provider(
    settings: ToolSettings, kind: Kind, provider: ProviderSettings, environ: Mapping[str, str] = os.environ
) -> SearchTool:
    """One provider alone, with the network settings of a toolbox. Raises as `build_toolbox` does."""
    from deepmmsearch.tools.providers.catalog import Catalog

    made: SearchTool = _Assembly(settings, environ).provider(Catalog.find(), kind, provider)
    return made


def find_grounder(policy: Policy, dialect: str | None = None) -> Grounder | None:
    """Grounding by the policy's own model, in `dialect` or the one its card names; None where it has no model."""
    from deepmmsearch.tools.grounding import OwnModelGrounder, Speaker

    named = dialect or _card_dialect(policy)
    _check_dialect(named)
    if not isinstance(policy, Speaker):
        return None
    return OwnModelGrounder(policy, policy.view, "qwen3-vl" if named == "qwen3-vl" else "qwen2.5-vl")


def _check_dialect(name: str | None) -> None:
    if name is not None and name not in BOX_DIALECTS:
        raise UnknownName("grounding dialect", name, BOX_DIALECTS)


def _card_dialect(policy: Policy) -> str:
    return getattr(getattr(policy, "card", None), "grounding", None) or "qwen2.5-vl"


@dataclass
class _Assembly:
    """Puts one toolbox together."""

    settings: ToolSettings
    environ: Mapping[str, str]
    # providers by name and settings, so that an index is opened once for words and pictures
    made: dict[tuple[str, str], Any] = field(default_factory=dict)

    def toolbox(self, policy: Policy) -> Toolbox:
        s = self.settings
        recorder = self.recorder()
        lists = {"text": s.text, "image": s.image}
        if s.kind == "local":
            lists = dict.fromkeys(lists, (ProviderSettings(name="local"),))
            if s.index is None:
                raise UserError("Local tools need an index. Build one with: deepmmsearch index build FOLDER")
        elif not s.text and not s.image:
            raise UserError("No provider is named. List some under text: or image:, such as text: [searxng].")
        else:
            self.check_prices()
        return Toolbox(
            self.search("text", lists["text"], recorder),
            self.search("image", lists["image"], recorder),
            self.grounder(policy, recorder),
            self.reader(recorder),
            self.summarizer(recorder),
            text_hits=s.text_hits,
            image_hits=s.image_hits,
            image_lines=s.image_lines,
            min_passage=s.min_passage,
            pages=s.pages,
            box_threshold=s.box_threshold,
            crop_padding=s.crop_padding,
            thumbnails=s.thumbnails,
            ledger=self.ledger(),
            **({} if recorder is None else {"stopwatch": _stopwatch(recorder)}),
        )

    # Search

    def search(self, kind: Kind, listed: Sequence[ProviderSettings], recorder: Recorder | None) -> Any:
        if not listed:
            return None
        if recorder is None:
            return self.failover(kind, listed)
        from deepmmsearch.tools.recorded import RecordedImageSearch, RecordedTextSearch

        tool = None if recorder.mode == "replay" else self.failover(kind, listed)
        known = {"provider": "+".join(p.name for p in listed), "settings": [self.options(p) for p in listed]}
        return (RecordedTextSearch if kind == "text" else RecordedImageSearch)(tool, recorder, known)

    def failover(self, kind: Kind, listed: Sequence[ProviderSettings]) -> FailOver:
        from deepmmsearch.tools.failover import FailOver, Lane, Pace
        from deepmmsearch.tools.providers.catalog import Catalog, MissingKey

        catalog, lanes, left_out = Catalog.find(), [], []
        for provider in listed:
            try:
                tool = self.provider(catalog, kind, provider)
            except (MissingKey, MissingExtra) as error:
                if not provider.optional:
                    raise
                left_out.append(str(error))
                continue
            pace = Pace(per_second=provider.per_second, concurrency=provider.concurrency)
            lanes.append(Lane(provider.name, tool, "text_search" if kind == "text" else "image_search", pace))
        if not lanes:
            raise UserError(f"None of the providers for {kind} search can be used. {' '.join(left_out)}")
        return FailOver(lanes)

    def provider(self, catalog: Catalog, kind: Kind, provider: ProviderSettings) -> Any:
        options = self.options(provider)
        key = (provider.name, repr(sorted(options.items())))
        kinds = catalog.kinds(provider.name)
        if kind not in kinds or key not in self.made:
            self.made[key] = catalog.make(
                provider.name, kind, options, self.client, self.environ, provider.key_variable
            )
        return self.made[key]

    def options(self, provider: ProviderSettings) -> dict[str, Any]:
        options = provider.options
        if provider.name == "local" and self.settings.index is not None:
            options.setdefault("index", str(self.settings.index))
        return options

    def client(self, own: Sequence[str] = (), known: Sequence[str] = ()) -> GuardedClient:
        """The client of a provider. `own`: its addresses in the recipe, whose hosts may be private, for it alone;
        `known`: all its addresses, which no list of allowed domains has to name."""
        from deepmmsearch.tools.http import GuardedClient

        network = self.settings.network
        allowed = (*network.allow_hosts, *map(_host, known)) if network.allow_hosts else ()
        return GuardedClient(
            allowed,
            network.block_hosts,
            (*network.allow_private, *map(_host_and_port, own)),
            timeout=network.timeout,
            max_bytes=network.max_bytes,
        )

    # The others

    def grounder(self, policy: Policy, recorder: Recorder | None) -> Any:
        from deepmmsearch.tools.recorded import RecordedGrounder

        g = self.settings.grounding
        if g.kind == "none":
            return None
        if g.kind == "own":
            tool = find_grounder(policy, g.dialect)
            name = f"own:{getattr(policy, 'name', type(policy).__name__)}"
        else:
            replaying = recorder is not None and recorder.mode == "replay"
            tool = None if replaying else self.detector() if g.kind == "dino" else self.other_model()
            name = f"{g.kind}:{g.model or 'default'}"
            if recorder is not None:
                return RecordedGrounder(tool, recorder, {"provider": name, "dialect": g.dialect})
        if recorder is None or tool is None:
            return tool
        return RecordedGrounder(tool, recorder, {"provider": name, "dialect": g.dialect or _card_dialect(policy)})

    def detector(self) -> Grounder:
        g = self.settings.grounding
        try:
            from deepmmsearch.tools.grounding.dino import DEFAULT_MODEL, DinoGrounder
        except ModuleNotFoundError as error:
            raise MissingExtra("Grounding DINO", "local") from error
        return DinoGrounder(g.model or DEFAULT_MODEL, device=g.device)

    def other_model(self) -> Grounder:
        """Another vision-language model behind an endpoint, which sees pictures as they are."""
        from deepmmsearch.policies.chat import ChatPolicy
        from deepmmsearch.tools.grounding import OwnModelGrounder

        g = self.settings.grounding
        if g.base_url is None:
            raise UserError("Grounding by another model needs the address of its endpoint. Set grounding.base_url.")
        speaker = ChatPolicy(g.model, g.base_url, key_variable=g.key_variable)
        return OwnModelGrounder(speaker, speaker.view, "qwen3-vl" if g.dialect == "qwen3-vl" else "qwen2.5-vl")

    def reader(self, recorder: Recorder | None) -> PageReader | None:
        from deepmmsearch.tools.recorded import RecordedReader

        kind = self.settings.reader.kind or ("local" if self.settings.kind == "local" else "none")
        if kind == "none":
            return None
        replaying = recorder is not None and recorder.mode == "replay"
        makers = {"local": self.local_reader, "web": self.web_reader, "jina": self.jina_reader}
        tool = None if replaying else makers[kind]()
        known = {"provider": kind, **({} if kind == "local" else {"longest": self.settings.reader.longest})}
        return tool if recorder is None else RecordedReader(tool, recorder, known)

    def web_reader(self) -> PageReader:
        from deepmmsearch.tools.reader import WebReader

        r, network = self.settings.reader, self.settings.network
        client = self.client()
        return WebReader(client, timeout=r.timeout, longest=r.longest, workers=r.workers, max_bytes=network.max_bytes)

    def jina_reader(self) -> PageReader:
        from deepmmsearch.tools.providers.jina_reader import JinaReader

        r, address = self.settings.reader, "https://r.jina.ai/"
        key = self.environ.get(JinaReader.key_variable, "")
        return JinaReader(self.client((), (address,)), key, address, longest=r.longest, timeout=r.timeout)

    def local_reader(self) -> PageReader:
        from deepmmsearch.engine import Index
        from deepmmsearch.tools.local import LocalReader

        if self.settings.index is None:
            raise UserError("The local reader needs an index. Build one with: deepmmsearch index build FOLDER")
        return LocalReader(Index.open(self.settings.index))

    def summarizer(self, recorder: Recorder | None) -> Summarizer | None:
        from deepmmsearch.tools.recorded import RecordedSummarizer
        from deepmmsearch.tools.summarizer import ExtractiveSummarizer

        given = self.settings.summarizer
        if given.kind == "none":
            return None
        tool = ExtractiveSummarizer(given.sentences)
        known = {"provider": given.kind, "sentences": given.sentences}
        return tool if recorder is None else RecordedSummarizer(tool, recorder, known)

    # The run

    def recorder(self) -> Recorder | None:
        """None in mode live, which touches no file."""
        given = self.settings.recorder
        from deepmmsearch.tools.recorder import MODES, Recorder

        if given.mode not in MODES:
            raise UnknownName("recorder mode", given.mode, MODES)
        if given.mode == "live":
            return None
        if given.cassette is None:
            raise UserError(f"Mode {given.mode} needs a file. Set recorder.cassette, such as runs/cache.sqlite.")
        from deepmmsearch.tools.cassette import Cassette

        cassette = Cassette(given.cassette, read_only=given.mode == "replay")
        return Recorder(cassette, "replay" if given.mode == "replay" else "cache", given.ttl, environ=self.environ)

    def ledger(self) -> Ledger:
        b = self.settings.budget
        return Ledger(
            {**PRICES, **self.settings.prices},
            Budget(b.question_calls, b.question_money),
            Purse(Budget(b.run_calls, b.run_money), "run"),
        )

    def check_prices(self) -> None:
        from deepmmsearch.tools.providers.catalog import Catalog

        known = {*Catalog.find().found, *PRICES}
        for name in self.settings.prices:
            # models are named as their endpoints or folders are
            if name not in known and not {":", "/"} & set(name):
                raise UnknownName("provider in prices", name, known)


def _stopwatch(recorder: Recorder) -> Any:
    from deepmmsearch.tools.recorded import RecordedStopwatch

    return RecordedStopwatch(recorder)


def _host(address: str) -> str:
    return urlsplit(address).hostname or ""


def _host_and_port(address: str) -> str:
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
