"""What a data build does, as settings: one section a step. Who plays and with which tools stands beside it, in
`compose.data_build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from deepmmsearch.filenames import unfit_names
from deepmmsearch.settings import Aside, EndpointSettings, LimitSettings, OneOf, Recipe, Settings

DATASET = "dataset"
"""The folder of the data set, and its name among the variants."""

CATEGORIES = ("Arts", "Place", "People", "Industry", "Science", "Nature", "Entities", "Events")
"""MMSearch-R1's eight (arXiv 2506.20670); the categories of DeepMMSearchVQA are not published."""

TAXONOMY_PROMPT = """\
Which kind of knowledge does this question about the picture need? Choose exactly one of these categories: {categories}.

Question: {question}
Right answer: {answer}

Write nothing but the name of the category."""


class _Seeds(Settings):
    """`seed`: the order in which rows are drawn, or the first world's."""

    seed: int = 0


class AtlasSeeds(_Seeds):
    """Questions of invented worlds: `questions` about each of `worlds`."""

    worlds: int = Field(ge=1)
    questions: int = Field(default=500, ge=1)
    world_split: Literal["train", "eval"] = "train"


class TableSeeds(_Seeds):
    """Questions of a benchmark or a file of your own. `count` rows are drawn, None takes all (paper, section 3.2:
    200,000 of InfoSeek train). `shard`: how many are worked on at a time."""

    benchmark: str
    path: Path | None = None
    images: Aside[Path | None] = None
    split: str | None = None
    count: int | None = Field(default=None, ge=1)
    shard: int = Field(default=500, ge=1)


Seeds = Annotated[
    AtlasSeeds | TableSeeds,
    OneOf(None, meant={"worlds": "worlds", "benchmark": "benchmark"}, noun="a section with"),
]


class Pictures(Settings):
    """How pictures are kept in the Parquet files. `max_pixels`: larger ones are made smaller. Crops and the pictures of
    hits, which no model reads unless thumbnails are shown, are left out unless `crops`, `hits`."""

    format: Literal["PNG", "JPEG", "WEBP"] = "JPEG"
    quality: int = Field(default=92, ge=1, le=100)
    max_pixels: int | None = Field(default=None, ge=1)
    crops: bool = False
    hits: bool = False


class Tries(Settings):
    """What an endpoint spoiled (an episode that ended in an error, a verdict, a label) is tried `attempts` times in
    all: again after `wait` seconds, then after twice as long each time, but at most a minute."""

    attempts: Aside[int] = Field(default=4, ge=1)
    wait: Aside[float] = Field(default=2.0, ge=0)

    def seconds(self, tried: int) -> float:
        """How long to wait after so many tries."""
        return min(60.0, self.wait * 2.0 ** min(tried - 1, 10))


class Episodes(Settings):
    """How the teacher plays (paper, section 3.2). Check A: every turn holds a valid action. Check B: fewer than `turns`
    turns. Check C: it ends with an answer. `attempts`: instead of those of `tries`."""

    turns: int = Field(default=10, ge=1)
    limits: LimitSettings = LimitSettings()
    concurrency: Aside[int] = Field(default=16, ge=1)
    attempts: Aside[int | None] = Field(default=None, ge=1)


class _Taxonomy(Settings):
    """`other`: the category of questions that get none; None drops them."""

    categories: list[str] = Field(default_factory=lambda: list(CATEGORIES), min_length=1)
    other: str | None = None
    concurrency: Aside[int] = Field(default=16, ge=1)


class KnownTaxonomy(_Taxonomy):
    """A question's category stands in its metadata, in `field`, through `mapping` where they have other names."""

    by: Literal["known"] = "known"
    field: str = "category"
    mapping: dict[str, str] = Field(default_factory=dict)


class ModelTaxonomy(_Taxonomy, EndpointSettings):
    """A language model behind an endpoint, which sees the picture and reads `prompt`, tells the category."""

    by: Literal["model"] = "model"
    prompt: str = TAXONOMY_PROMPT
    max_new_tokens: int = Field(default=64, gt=0)

    @field_validator("prompt")
    @classmethod
    def _names_the_question(cls, prompt: str) -> str:
        if "{question}" not in prompt or "{categories}" not in prompt:
            raise ValueError("the taxonomy's prompt needs {question} and {categories} in it")
        return prompt


Taxonomy = Annotated[KnownTaxonomy | ModelTaxonomy, OneOf("by", default="known", noun="taxonomy by")]


class SearchByTrajectory(Settings):
    """A question is search-required when the teacher searched."""

    by: Literal["trajectory"] = "trajectory"


class SearchByRollouts(Settings):
    """`rollouts` of another policy for each question tell (MMSearch-R1, section 3: 8; all wrong -> dropped, right
    without a search -> search-free)."""

    by: Literal["rollouts"] = "rollouts"
    rollouts: int = Field(default=8, ge=1)
    concurrency: Aside[int] = Field(default=16, ge=1)


Search = Annotated[SearchByTrajectory | SearchByRollouts, OneOf("by", default="trajectory", noun="search by")]


class _Against(Settings):
    """`count`: the sample that is evaluated, None for all (of a world: 500)."""

    count: int | None = None
    seed: int = 0


class AgainstAtlas(_Against):
    """Questions about the invented world of `seed`."""

    benchmark: Literal["atlas"] = "atlas"


class AgainstTable(_Against):
    """Questions of a benchmark or a file."""

    benchmark: str
    path: Path | None = None
    images: Aside[Path | None] = None
    split: str | None = None


Against = Annotated[AgainstAtlas | AgainstTable, OneOf("benchmark", other="another benchmark")]


class Unique(Settings):
    """What is removed as a duplicate. `bits`: pictures whose 64-bit perceptual hashes differ in at most so many bits
    are the same picture. `overlap`: share of words that two questions have in common (Jaccard) from which on they are
    the same question. `per_picture`: most questions about one picture, None for any number.

    `against`: benchmarks or files whose questions must not be in the data; a row is removed when its picture is one of
    theirs, or its question is and an accepted answer too."""

    bits: int = Field(default=4, ge=0, le=32)
    overlap: float = Field(default=0.9, gt=0, le=1)
    per_picture: int | None = Field(default=None, ge=1)
    against: list[Against] = Field(default_factory=list)


class Mix(Settings):
    """Which rows the data set gets: `size` (None: as many as the shares allow), about `uniform` over the categories or
    `random`, and the share that needs a search (None: as it comes)."""

    size: int | None = Field(default=None, ge=1)
    taxonomy: Literal["uniform", "random"] = "uniform"
    search_share: float | None = Field(default=0.5, ge=0, le=1)
    seed: int = 0


class Balance(Mix):
    """The data set's mix (paper, section 3.2: 10,000, uniform, 50:50), and others beside it, for ablations, each in a
    folder of its name."""

    variants: dict[str, Mix] = Field(default_factory=dict)

    @field_validator("variants")
    @classmethod
    def _are_folders(cls, variants: dict[str, Mix]) -> dict[str, Mix]:
        if problem := unfit_names("the variant", variants, taken=[DATASET]):
            raise ValueError(problem)
        return variants


class Splits(Settings):
    """`validation`: the share kept out of training. Questions about one picture stay together."""

    validation: float = Field(default=0.05, ge=0, lt=1)
    rows_per_file: int = Field(default=2000, ge=1)


class BuildSettings(Recipe):
    """Everything but who plays. `output` is the folder of the build; `licence` and `name` stand in the card."""

    name: Aside[str] = "deepmmsearch-vqa"
    licence: Aside[str] = "unknown"
    output: Aside[Path]
    processes: Aside[int] = Field(default=1, ge=1)
    tries: Aside[Tries] = Tries()
    seeds: Seeds
    pictures: Pictures = Pictures()
    episodes: Episodes = Episodes()
    taxonomy: Taxonomy = KnownTaxonomy()
    search: Search = SearchByTrajectory()
    unique: Unique = Unique()
    balance: Balance = Balance()
    splits: Splits = Splits()
