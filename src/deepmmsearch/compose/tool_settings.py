"""What a toolbox is made from. A file for `--tools` holds these settings alone; an experiment's recipe holds them under
`tools:`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from deepmmsearch.compose.tool_parts import (
    AutoMatcherSettings,
    ExtractiveSummarizerSettings,
    GroundingSettings,
    LocalFirstReader,
    LocalReaderSettings,
    MatcherSettings,
    NoReaderSettings,
    OwnGroundingSettings,
    SummarizerSettings,
    WebFirstReader,
    WebReaderSettings,
)
from deepmmsearch.index_place import Place, place
from deepmmsearch.settings import Aside, OneOf, Recipe, Settings


class ProviderSettings(Settings):
    """One provider in a list, its name alone where it needs nothing else; what is not named here is a setting of its
    own (`deepmmsearch tools` shows them).

    `per_second`, `concurrency`: how fast and how often at once it is asked (None: as the provider's class says, else
    without a bound, and 16). `key_variable`: the environment variable of its key, where it is not the usual one.
    `optional`: leave it out where its key or extra is missing.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    per_second: Aside[float | None] = Field(default=None, gt=0)
    concurrency: Aside[int | None] = Field(default=None, ge=1)
    key_variable: Aside[str | None] = None
    optional: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str | dict) else given


Providers = Annotated[
    tuple[Annotated[ProviderSettings, OneOf("name", other="a provider")], ...], BeforeValidator(_listed)
]


class ExtraToolSettings(Settings):
    """A tool beside the searches, its name alone where it needs nothing else; what is not named here is a setting of
    its own."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


ExtraTools = Annotated[
    tuple[Annotated[ExtraToolSettings, OneOf("name", other="a tool")], ...], BeforeValidator(_listed)
]


class McpServerSettings(Settings):
    """Tools of an MCP server, which the policy may use as `mcp_NAME_TOOL`; those alone that `tools` names.

    `command`: a program and its arguments, which speaks over standard input and output; it gets the environment
    `variables` that are named here. `url`: a server over HTTP; the key in the environment variable `key_variable` goes
    along as a bearer, or as it is under another header. `limit`: how often an episode may use each tool; `timeout`:
    seconds for an answer."""

    name: str = Field(pattern=r"^[a-z][a-z0-9]{0,23}$")
    tools: tuple[str, ...] = Field(min_length=1)
    command: tuple[str, ...] = ()
    variables: Aside[tuple[str, ...]] = ()
    url: str | None = None
    key_variable: Aside[str | None] = None
    key_header: Aside[str] = Field(default="Authorization", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,60}$")
    limit: int | None = Field(default=None, ge=1)
    timeout: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _reached(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command, a program and its arguments, or url")
        if self.variables and not self.command:
            raise ValueError("variables belong to a command; the key of a url is named by key_variable")
        if self.command and (self.key_variable or "key_header" in self.model_fields_set):
            raise ValueError("key_variable and key_header belong to a url; those of a command are its variables")
        return self


class NetworkSettings(Settings):
    """`allow_hosts`, `block_hosts`: domains that this run may and may not fetch from. `allow_private`: hosts in private
    networks that may be fetched by all tools; a provider's own `url` is allowed to it alone. `timeout` in seconds."""

    allow_hosts: tuple[str, ...] = ()
    block_hosts: tuple[str, ...] = ()
    allow_private: tuple[str, ...] = ()
    timeout: float = Field(default=20.0, gt=0)
    max_bytes: int = Field(default=10_000_000, ge=1)


class LiveSettings(Settings):
    """Nothing is recorded."""

    mode: Literal["live"] = "live"


class CacheSettings(Settings):
    """Asks only what the file `cassette` does not hold, and records it. `ttl`: seconds by tool (text_search,
    image_search, grounder, reader, summarizer, ocr, python, mcp) for which a recorded answer is taken; without, for
    ever."""

    mode: Literal["cache"] = "cache"
    cassette: Path
    ttl: dict[str, float] = Field(default_factory=dict)


class ReplaySettings(Settings):
    """Answers from the file `cassette` alone."""

    mode: Literal["replay"] = "replay"
    cassette: Path


RecorderSettings = Annotated[
    LiveSettings | CacheSettings | ReplaySettings, OneOf("mode", default="live", meant={"cassette": "cache"})
]
"""See `tools.recorder`."""


class BudgetSettings(Settings):
    """Most calls and most US dollars, for each question and for the whole run; None is without limit."""

    question_calls: int | None = Field(default=None, ge=0)
    question_money: float | None = Field(default=None, ge=0)
    run_calls: int | None = Field(default=None, ge=0)
    run_money: float | None = Field(default=None, ge=0)


class NoToolSettings(Settings):
    """The policy answers from the picture and from memory."""

    kind: Literal["none"] = "none"


class SearchSettings(Recipe):
    """What every search shares. `encoders`: models that the index may name for its vectors, besides the usual ones.
    `extra`: tools that the policy may use beside the searches, `mcp`: those of servers. `prices`: US dollars a call, by
    provider, where they are not the provider's own. For the numbers see `agent.Toolbox`."""

    index: Annotated[Place, BeforeValidator(place)] | None = None
    encoders: Aside[tuple[str, ...]] = ()
    extra: ExtraTools = ()
    mcp: tuple[McpServerSettings, ...] = ()
    summarizer: SummarizerSettings = ExtractiveSummarizerSettings()
    grounding: GroundingSettings = OwnGroundingSettings()
    matcher: MatcherSettings = AutoMatcherSettings()
    network: NetworkSettings = NetworkSettings()
    recorder: RecorderSettings = LiveSettings()
    budget: BudgetSettings = BudgetSettings()
    prices: dict[str, float] = Field(default_factory=dict)
    text_hits: int = Field(default=5, ge=1)
    image_hits: int = Field(default=5, ge=1)
    image_lines: int = Field(default=3, ge=1)
    min_passage: int = Field(default=400, ge=0)
    pages: int | None = Field(default=None, ge=1)
    crop_padding: float = Field(default=0.05, ge=0)
    thumbnails: bool = False


class LocalToolSettings(SearchSettings):
    """One index of your own for everything: `index`."""

    kind: Literal["local"] = "local"
    reader: LocalFirstReader = LocalReaderSettings()

    @model_validator(mode="after")
    def _goes_out(self) -> Self:
        served = any(server.url for server in self.mcp)
        if (
            "network" in self.model_fields_set
            and not served
            and isinstance(self.reader, NoReaderSettings | LocalReaderSettings)
        ):
            raise ValueError("network belongs to tools that fetch pages; an index of your own fetches none. Remove it")
        return self


OF_PICTURES = ("grounding", "matcher", "image_hits", "image_lines", "crop_padding", "thumbnails")
OF_TEXT = ("reader", "pages", "text_hits", "min_passage")


class ProviderToolSettings(SearchSettings):
    """Providers in the order in which they are asked, for words under `text`, for pictures under `image`. `index`: for
    the provider and the reader `local`."""

    kind: Literal["providers"] = "providers"
    text: Providers = ()
    image: Providers = ()
    reader: WebFirstReader = WebReaderSettings()

    @model_validator(mode="after")
    def _searched(self) -> Self:
        if not self.text and not self.image:
            raise ValueError("no provider is named. List some under text: or image:, such as text: [searxng]")
        for kind, listed, own in (("image", self.image, OF_PICTURES), ("text", self.text, OF_TEXT)):
            for name in own if not listed else ():
                if name in self.model_fields_set and getattr(getattr(self, name), "kind", None) != "none":
                    raise ValueError(f"{name} belongs to {kind} search, and no provider is listed under {kind}:")
        local = any(p.name == "local" for p in (*self.text, *self.image)) or self.reader.kind == "local"
        if self.index is not None and not local:
            raise ValueError("index belongs to the provider and the reader called local, and neither is named")
        return self


ToolSettings = Annotated[
    NoToolSettings | LocalToolSettings | ProviderToolSettings,
    OneOf(default="local", meant={"text": "providers", "image": "providers"}),
]
"""What the policy may use: nothing (none), an index of your own for everything (local), or providers, which are meant
where `text` or `image` is given."""
