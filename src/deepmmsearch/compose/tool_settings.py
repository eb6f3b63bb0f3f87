"""What a toolbox is made from. A file for `--tools` holds these settings alone; an experiment's recipe holds them under
`tools:`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from deepmmsearch.settings import Aside, EndpointSettings, OneOf, Recipe, Settings

BOX_DIALECTS = ("qwen2.5-vl", "qwen3-vl")
BoxDialect = Literal["qwen2.5-vl", "qwen3-vl"]


class ProviderSettings(Settings):
    """One provider in a list, its name alone where it needs nothing else; what is not named here is a setting of its
    own (`deepmmsearch tools` shows them).

    `per_second`, `concurrency`: how fast and how often at once it is asked. `key_variable`: the environment variable
    of its key, where it is not the usual one. `optional`: leave it out where its key or extra is missing.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    per_second: Aside[float | None] = Field(default=None, gt=0)
    concurrency: Aside[int] = Field(default=16, ge=1)
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
    image_search, grounder, reader, summarizer) for which a recorded answer is taken; without, for ever."""

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


class _BoxSettings(Settings):
    """`box_threshold`: the score below which a box is none; None is what is usual for the kind
    (`tools.grounding.THRESHOLDS`)."""

    box_threshold: float | None = Field(default=None, ge=0, le=1)


class NoGroundingSettings(Settings):
    """Image searches use the whole picture."""

    kind: Literal["none"] = "none"


class OwnGroundingSettings(_BoxSettings):
    """The policy's own model finds boxes. `dialect`: how it writes them; None takes it from its card."""

    kind: Literal["own"] = "own"
    dialect: BoxDialect | None = None


class DinoGroundingSettings(_BoxSettings):
    """Grounding DINO finds boxes. `text_threshold`: the score from which it counts a word into the label of its box."""

    kind: Literal["dino"] = "dino"
    model: str | None = None
    text_threshold: float = Field(default=0.25, ge=0, le=1)
    device: Aside[str] = "auto"


class ChatGroundingSettings(_BoxSettings, EndpointSettings):
    """Another vision-language model behind an endpoint finds boxes, and writes them in `dialect` (None: qwen2.5-vl)."""

    kind: Literal["chat"] = "chat"
    base_url: str
    dialect: BoxDialect | None = None


def _dialect_alone(given: Any) -> Any:
    if given is None:
        return {}
    return {"kind": "own", "dialect": given} if isinstance(given, str) and given in BOX_DIALECTS else given


GroundingSettings = Annotated[
    NoGroundingSettings | OwnGroundingSettings | DinoGroundingSettings | ChatGroundingSettings,
    OneOf(default="own"),
    BeforeValidator(_dialect_alone),
]


class NoSummarizerSettings(Settings):
    """The hits' own text."""

    kind: Literal["none"] = "none"


class _ExtractSettings(Settings):
    """`sentences`: most sentences of a page. `encoder`: a sentence-transformers model, such as minilm, that ranks them
    beside their words."""

    sentences: int = Field(default=2, ge=1)
    encoder: str | None = None


class ExtractiveSummarizerSettings(_ExtractSettings):
    """Sentences of the pages that serve the query."""

    kind: Literal["extractive"] = "extractive"


class OwnSummarizerSettings(_ExtractSettings):
    """The policy's own model writes one summary of all hits (DeepMMSearch-R1), or one of each page (`per_page`,
    MMSearch-R1); where it fails, the extractive one stands in."""

    kind: Literal["own"] = "own"
    per_page: bool = False


class ChatSummarizerSettings(_ExtractSettings, EndpointSettings):
    """As own, written by a model behind an endpoint."""

    kind: Literal["chat"] = "chat"
    per_page: bool = False
    base_url: str
    timeout: float = Field(default=60.0, gt=0)


SummarizerSettings = Annotated[
    NoSummarizerSettings | ExtractiveSummarizerSettings | OwnSummarizerSettings | ChatSummarizerSettings,
    OneOf(default="extractive"),
]


class NoReaderSettings(Settings):
    """Pages are not read: hits are what their provider says."""

    kind: Literal["none"] = "none"


class LocalReaderSettings(Settings):
    """The local index knows the pages."""

    kind: Literal["local"] = "local"


class WebReaderSettings(Settings):
    """The guarded client fetches pages, trafilatura reads them. What is not named here is a setting of
    `tools.page_reader.WebReader`."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["web"] = "web"

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ProviderReaderSettings(Settings):
    """A provider reads pages, such as jina-reader. What is not named here is a setting of its own."""

    model_config = ConfigDict(extra="allow")

    kind: str
    key_variable: Aside[str | None] = None

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


_Reader = NoReaderSettings | LocalReaderSettings | WebReaderSettings | ProviderReaderSettings
READER = "the name of a provider"
LocalFirstReader = Annotated[_Reader, OneOf(default="local", other=READER)]
WebFirstReader = Annotated[_Reader, OneOf(default="web", other=READER)]


class AutoMatcherSettings(Settings):
    """As picture where the extra engine is installed, else as rank; not at all for local tools, whose engine tells."""

    kind: Literal["auto"] = "auto"
    ranks: int = Field(default=1, ge=0)


class NoMatcherSettings(Settings):
    """Nobody tells which image hits show what was searched for, but the provider."""

    kind: Literal["none"] = "none"


class RankMatcherSettings(Settings):
    """The first `ranks` hits match."""

    kind: Literal["rank"] = "rank"
    ranks: int = Field(default=1, ge=0)


class PictureMatcherSettings(Settings):
    """The hits' pictures and the engine's descriptors tell; the first `ranks` hits without a picture match."""

    kind: Literal["picture"] = "picture"
    ranks: int = Field(default=1, ge=0)


class EncoderMatcherSettings(Settings):
    """A hit matches whose picture has a cosine of at least `threshold` in the neural encoder `model`, such as
    google/siglip2-base-patch16-224; the first `ranks` hits without a picture match."""

    kind: Literal["encoder"] = "encoder"
    model: str
    threshold: float = 0.8
    ranks: int = Field(default=1, ge=0)


MatcherSettings = Annotated[
    AutoMatcherSettings | NoMatcherSettings | RankMatcherSettings | PictureMatcherSettings | EncoderMatcherSettings,
    OneOf(default="auto"),
]
"""Which image hits show what was searched for, where the provider does not say."""


class NoToolSettings(Settings):
    """The policy answers from the picture and from memory."""

    kind: Literal["none"] = "none"


class SearchSettings(Recipe):
    """What every search shares. `encoders`: models that the index may name for its vectors, besides the usual ones.
    `extra`: tools that the policy may use beside the searches. `prices`: US dollars a call, by provider, where they are
    not the provider's own. For the numbers see `agent.Toolbox`."""

    index: Path | None = None
    encoders: Aside[tuple[str, ...]] = ()
    extra: ExtraTools = ()
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
        if "network" in self.model_fields_set and isinstance(self.reader, NoReaderSettings | LocalReaderSettings):
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
