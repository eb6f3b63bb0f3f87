"""The parts of a toolbox that come in kinds: who finds boxes, summarises, reads pages and tells which hits match."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field

from deepmmsearch.settings import Aside, EndpointSettings, OneOf, SeeingEndpointSettings, Settings

BoxDialect = Literal["qwen2.5-vl", "qwen3-vl", "gemini", "fractions"]
BOX_DIALECTS = get_args(BoxDialect)


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


class ChatGroundingSettings(_BoxSettings, SeeingEndpointSettings):
    """Another vision-language model behind an endpoint finds boxes, and writes them in `dialect` (None: as its
    name tells, else qwen2.5-vl)."""

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
