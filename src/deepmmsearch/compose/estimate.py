"""How much a run will do, take and cost, from what is typical of one question: estimates, each with what it assumes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path

from deepmmsearch.agent.table import SERVED, TOOLS
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.tool_parts import ProviderReaderSettings, WebReaderSettings
from deepmmsearch.compose.tool_settings import LocalToolSettings, ProviderToolSettings, SearchSettings, ToolSettings
from deepmmsearch.settings import EndpointSettings, LimitSettings

# One question of an agent that searches as much as it needs.
TEXT_SEARCHES, IMAGE_SEARCHES = 1.5, 1.0
# Uses of each tool beside the searches.
USES = 0.5
# Tokens: what a first turn reads (prompt, question, picture), what each observation adds, what a turn writes.
PROMPT, OBSERVATION, WRITTEN = 1500, 400, 120
JUDGED = 500
# Of those, in models of fewer parameters than this: they see small pictures and were taught few words.
SMALL, SMALL_SHARE = 1e8, 0.2
# Seconds: of a turn behind an endpoint and of a search, while as many are under way as `concurrency` says.
TURN, SEARCH = 3.0, 1.0
# Of a turn of the smallest model in this process; and floating-point operations a second: a core, a GPU.
LEAST_TURN = 0.09
CORE, GPU = 5e10, 4e14
UNKNOWN_PARAMETERS = 7e9
BUNDLED_PARAMETERS = 4.2e6

# About how many questions a benchmark asks, where its files are not here to be counted.
BENCHMARKS = {
    "infoseek": 73_620, "evqa": 5_750, "simplevqa": 1_013, "dynvqa": 715, "okvqa": 5_046, "aokvqa": 1_145,
    "aokvqa-choices": 1_145, "fvqa-train": 5_000, "fvqa-test": 1_800, "mmsearch": 300, "livevqa": 3_602,
    "ocrbench": 1_000, "mmvet": 218, "ai2d": 3_088, "mathvista": 1_000, "mmbench": 4_329, "docvqa": 5_349,
    "infovqa": 2_801, "simplevqa-zh": 1_012, "dynvqa-zh": 720, "mmsearch-plus": 311, "visbrowse": 169,
    "mm-browsecomp": 224, "browsecomp-vl": 199, "hr-mmsearch": 305, "vdr-bench": 2_000,
}  # fmt: skip
UNKNOWN_QUESTIONS = 1000
# Bytes of a question about an invented world, with its picture.
WORLD_QUESTION = 60_000


@dataclass(frozen=True)
class Work:
    """One part of a run. `turns`: of the model that plays; `calls`: of tools, judges and other models, by name; tokens
    read and written by models; `seconds`; `money` in US dollars, tokens aside."""

    name: str
    questions: float = 0
    turns: float = 0
    calls: dict[str, float] = field(default_factory=dict)
    read: float = 0
    written: float = 0
    seconds: float = 0
    money: float = 0

    def plus(self, other: Work) -> Work:
        calls = {n: self.calls.get(n, 0) + other.calls.get(n, 0) for n in (*self.calls, *other.calls)}
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.type == "float"}
        return Work(self.name, calls=calls, **sums)


@dataclass
class Assumptions:
    """What was assumed, each once."""

    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text not in self.texts:
            self.texts.append(text)


@dataclass(frozen=True)
class Tempo:
    """How fast whoever plays writes a turn: behind an endpoint, in this process with so many parameters, or without a
    model (the oracle)."""

    endpoint: str | None = None
    parameters: float = 0

    def seconds(self, turns: float, tokens: float, concurrency: int) -> float:
        if self.endpoint is not None:
            return turns * TURN / concurrency
        if not self.parameters:
            return turns * 0.01
        return max(turns * LEAST_TURN, 2 * self.parameters * tokens / speed())


def episodes(
    name: str,
    questions: float,
    tempo: Tempo,
    tools: ToolSettings | None,
    assumed: Assumptions,
    *,
    images: float = IMAGE_SEARCHES,
    texts: float = TEXT_SEARCHES,
    limits: LimitSettings | None = None,
    turns: float | None = None,
    concurrency: int = 16,
) -> Work:
    """Questions played. `tools` None: an index that costs nothing. `turns` None: one for each search, and an answer."""
    allowed = limits or LimitSettings()
    images = min(images, allowed.image_searches, allowed.calls) if _has(tools, "image") else 0
    texts = min(texts, allowed.calls - images) if _has(tools, "text") else 0
    used = _uses(tools, allowed.calls - images - texts) if turns is None else {}
    played = turns if turns is not None else images + texts + sum(used.values()) + 1
    share = SMALL_SHARE if 0 < tempo.parameters < SMALL else 1.0
    read = share * (played * PROMPT + OBSERVATION * played * (played - 1) / 2)
    written = share * played * WRITTEN
    tokens = questions * (read + written)
    if images + texts:
        assumed.add(
            f"A question takes {TEXT_SEARCHES:g} text searches and {IMAGE_SEARCHES:g} image search where the limits "
            "allow it, nothing is found in a cassette, and no tool fails."
        )
    if used:
        assumed.add(f"Each tool beside the searches is used {USES:g} times, as far as the limits allow it.")
    prices = _prices(tools)
    pages = texts * pages_of(tools) + used.get("visit", 0)
    calls = {"image": questions * images, "text": questions * texts, "pages": questions * pages}
    calls |= {name: questions * count for name, count in used.items()}
    money = questions * (images * prices["image"] + texts * prices["text"] + pages * prices["page"])
    money += questions * sum(count * _price_of(tools, name) for name, count in used.items())
    seconds = tempo.seconds(questions * played, tokens, concurrency)
    if isinstance(tools, ProviderToolSettings):
        seconds += questions * (images + texts + sum(used.values())) * SEARCH / concurrency
    if tempo.endpoint or tempo.parameters:
        first, each, turn = (f"{share * tokens:,.0f}" for tokens in (PROMPT, OBSERVATION, WRITTEN))
        assumed.add(f"A first turn reads about {first} tokens, each observation adds {each}, a turn writes {turn}.")
    if tempo.endpoint:
        assumed.add(
            f"A turn behind an endpoint takes {TURN:g} s, a search {SEARCH:g} s, as many at once as `concurrency` "
            "says. What its tokens cost is not known here and not in the sum."
        )
    elif tempo.parameters:
        assumed.add(f"This machine reaches {speed():.0e} operations a second.")
    return Work(
        name, questions, questions * played, {n: c for n, c in calls.items() if c}, questions * read,
        questions * written, seconds, money,
    )  # fmt: skip


def length(work: Work) -> float:
    """Tokens of one of its episodes, each counted once."""
    turns = work.turns / max(1, work.questions)
    share = (work.written / max(1, work.turns)) / WRITTEN
    return share * (PROMPT + (turns - 1) * OBSERVATION + turns * WRITTEN)


def judged(name: str, answers: float, settings: object, concurrency: int) -> Work | None:
    """None for rules, which take no time to speak of."""
    if not isinstance(settings, EndpointSettings):
        return None
    return Work(
        name, answers, calls={"judged": answers}, read=answers * JUDGED, written=answers,
        seconds=answers * TURN / 3 / concurrency,
    )  # fmt: skip


def training(
    name: str,
    rows: float,
    tokens: float,
    parameters: float,
    operations: float,
    assumed: Assumptions,
    threads: int | None = None,
) -> Work:
    """`operations`: floating-point operations a parameter and token; `threads`: cores that are used, where there is no
    GPU (None: all)."""
    assumed.add(f"Training takes {operations:g} operations a parameter and token.")
    used = speed(threads)
    assumed.add(f"This machine reaches {used:.0e} operations a second{' in training' if threads else ''}.")
    return Work(name, rows, read=tokens, seconds=operations * parameters * tokens / used)


def parameters_of(source: str | Path) -> float | None:
    """From the size of the weights here, else from what the name says (`7B`); None where neither tells."""
    folder = Path(source)
    if folder == BUNDLED:
        return BUNDLED_PARAMETERS
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder.is_dir() else 0
    if weights:
        return weights / 2
    named = re.search(r"(?<!\d)(\d+(?:\.\d+)?)[bB](?![a-z])", folder.name)
    return float(named[1]) * 1e9 if named else None


def speed(threads: int | None = None) -> float:
    """Floating-point operations a second of this machine, roughly; of so many cores of it, where it has no GPU."""
    if find_spec("torch") is not None:
        from deepmmsearch.policies.devices import count_gpus

        if gpus := count_gpus():
            return GPU * gpus
    cores = os.cpu_count() or 1
    return CORE * min(threads or cores, cores)


def pages_of(tools: ToolSettings | None) -> float:
    """Pages that are fetched for a text search."""
    if not isinstance(tools, ProviderToolSettings) or not isinstance(
        tools.reader, WebReaderSettings | ProviderReaderSettings
    ):
        return 0
    return min(tools.pages or tools.text_hits, tools.text_hits)


def _has(tools: ToolSettings | None, kind: str) -> bool:
    if tools is None or isinstance(tools, LocalToolSettings):
        return True
    return isinstance(tools, ProviderToolSettings) and bool(getattr(tools, kind))


def _uses(tools: ToolSettings | None, left: float) -> dict[str, float]:
    """How often a question uses each tool beside the searches, with so many calls left."""
    if not isinstance(tools, SearchSettings):
        return {}
    limits = {tool.name: tool.options.get("limit") for tool in tools.extra}
    limits |= {f"{SERVED}{server.name}": server.limit for server in tools.mcp}
    uses = {name: min(USES, limit) if isinstance(limit, int) else USES for name, limit in limits.items()}
    share = min(1.0, max(0.0, left) / sum(uses.values())) if uses else 0.0
    return {name: share * count for name, count in uses.items()}


def _price_of(tools: ToolSettings | None, name: str) -> float:
    """US dollars a use, of a tool beside the searches."""
    if not isinstance(tools, SearchSettings):
        return 0.0
    own = TOOLS.find(name) if name in TOOLS.names() else None
    return tools.prices.get(name, getattr(own, "price", 0.0))


def _prices(tools: ToolSettings | None) -> dict[str, float]:
    """US dollars a call, of the first provider in each list: the others are asked where it fails."""
    prices = {"text": 0.0, "image": 0.0, "page": 0.0}
    if not isinstance(tools, ProviderToolSettings):
        return prices
    from deepmmsearch.tools.providers.catalog import PROVIDERS

    named = {"text": [p.name for p in tools.text], "image": [p.name for p in tools.image]}
    if isinstance(tools.reader, ProviderReaderSettings):
        named["page"] = [tools.reader.kind]
    for kind, names in named.items():
        for name in names[:1]:
            own = getattr(PROVIDERS.find(name), "price", 0.0) if name in PROVIDERS.names() else 0.0
            prices[kind] = tools.prices.get(name, own)
    return prices
