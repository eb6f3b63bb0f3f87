"""What a toolbox is made from. A file for `--tools` holds these settings alone; an experiment's recipe holds them under
`tools:`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

KINDS = ("none", "local", "providers")
SUMMARIZERS = ("none", "extractive", "own", "chat")
GROUNDERS = ("none", "own", "dino", "chat")
MATCHERS = ("none", "rank", "picture", "encoder")
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
    `model`: for dino and chat; `base_url`, `key_variable`: for chat. `dialect`: of a vision-language model's boxes;
    None takes it from the policy's card. `box_threshold`: the score below which a box is none; None is what is usual
    for the kind (`tools.grounding.THRESHOLDS`). `text_threshold`: the score from which dino counts a word into the
    label of its box."""

    kind: str = "own"
    model: str | None = None
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    dialect: str | None = None
    box_threshold: float | None = Field(default=None, ge=0, le=1)
    text_threshold: float = Field(default=0.25, ge=0, le=1)
    device: str = "auto"


class SummarizerSettings(_Settings):
    """`kind`: sentences of the pages that serve the query (extractive, with at most `sentences` of each page), the
    policy's own model (own), a model behind an endpoint (chat), or none: the hits' own text. `encoder`: a
    sentence-transformers model, such as minilm, that ranks the sentences of extractive beside their words.

    For own and chat: one summary of all hits (DeepMMSearch-R1), or one of each page (`per_page`, MMSearch-R1); where
    the model fails, the extractive one stands in. `model`, `base_url`, `key_variable`, `timeout` (seconds): for chat.
    """

    kind: str = "extractive"
    sentences: int = Field(default=2, ge=1)
    encoder: str | None = None
    per_page: bool = False
    model: str | None = None
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    max_new_tokens: int = Field(default=1024, ge=1)
    timeout: float = Field(default=60.0, gt=0)


class ReaderSettings(BaseModel):
    """Who reads the pages behind hits. `kind`: the guarded client and trafilatura (web), the local index (local), a
    provider such as jina-reader, or nobody (none); None is local for local tools, else web. What is not named here is
    a setting of the reader itself."""

    model_config = ConfigDict(extra="allow")

    kind: str | None = None
    key_variable: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class MatcherSettings(_Settings):
    """Which image hits show what was searched for, where the provider does not say. `kind`: by the hits' pictures and
    the engine's descriptors (picture), a neural `model` whose cosine is at least `threshold` (encoder), the provider's
    rank alone (rank), or nobody tells (none); None is picture where the extra engine is installed, else rank. The first
    `ranks` hits without a picture match."""

    kind: str | None = None
    ranks: int = Field(default=1, ge=0)
    model: str | None = None
    threshold: float = 0.8


class ToolSettings(_Settings):
    """What the policy may use.

    `kind`: none, local (an index of one's own for everything), or providers, which is meant where `text` or `image` is
    given: providers in the order in which they are asked. `index`: for local tools. `prices`: US dollars a call, by
    provider, where they are not the provider's own. For the numbers see `agent.Toolbox`.
    """

    kind: str = "local"
    index: Path | None = None
    text: tuple[ProviderSettings, ...] = ()
    image: tuple[ProviderSettings, ...] = ()
    reader: ReaderSettings = ReaderSettings()
    summarizer: SummarizerSettings = SummarizerSettings()
    grounding: GroundingSettings = GroundingSettings()
    matcher: MatcherSettings = MatcherSettings()
    network: NetworkSettings = NetworkSettings()
    recorder: RecorderSettings = RecorderSettings(mode="live")
    budget: BudgetSettings = BudgetSettings()
    prices: dict[str, float] = Field(default_factory=dict)
    text_hits: int = Field(default=5, ge=1)
    image_hits: int = Field(default=5, ge=1)
    image_lines: int = Field(default=3, ge=1)
    min_passage: int = Field(default=400, ge=0)
    pages: int | None = Field(default=None, ge=1)
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

    @field_validator("reader", "summarizer", "matcher", mode="before")
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
