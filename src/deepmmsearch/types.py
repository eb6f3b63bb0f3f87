"""The values that everything else reads and writes: one question, its turns, one trajectory.

All are frozen: an episode grows by `Trajectory.then`, which also decides when it stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeGuard

from PIL.Image import Image

Finish = Literal["stop", "length", "context", "filter", "refusal", "cut"]
Stop = Literal["answer", "turns", "length", "context", "filter", "refusal", "cut", "error"]
MatchBasis = Literal["picture", "rank"]
GroundingOutcome = Literal["box", "several", "whole", "none", "weak", "tiny", "failed", "missing"]


@dataclass(frozen=True)
class Link:
    """Where a page leads, and the words that say so there."""

    text: str
    url: str


@dataclass(frozen=True)
class Box:
    """A region in pixels of the image it was located in: left, top, right, bottom (right and bottom exclusive).
    `label`: the words of the expression that it was found for, where the grounder tells."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = 1.0
    label: str = ""

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)


@dataclass(frozen=True)
class TextSearch:
    """`query`: one line; several lines are so many queries, where a dialect's call may hold several."""

    query: str


@dataclass(frozen=True)
class ImageSearch:
    """A search with picture number `picture` of the episode (`Trajectory.pictures`): with the part that `region` names
    in words ("the flag on the ship") or that `box` encloses, else with all of it."""

    region: str | None = None
    box: Box | None = None
    picture: int = 1


@dataclass(frozen=True)
class Use:
    """The use of any other tool, by its name. `arguments` are plain JSON values; `search`: does the tool count as a
    search? It stands here so that a stored episode can be scored where the tool is not installed."""

    tool: str
    arguments: Mapping[str, Any]
    search: bool = True


@dataclass(frozen=True)
class Answer:
    """`formed`: False for a text that is taken for the answer though the turn did not have its form."""

    text: str
    formed: bool = True


@dataclass(frozen=True)
class Malformed:
    """No valid action; `problem` is written for the policy, which reads it and can act upon it."""

    problem: str


Action = TextSearch | ImageSearch | Use | Answer | Malformed
Search = TextSearch | ImageSearch | Use


def is_search(action: Action) -> TypeGuard[Search]:
    """Does it count as a search: for the penalty, for figures, for how often an episode searched?"""
    return isinstance(action, TextSearch | ImageSearch) or (isinstance(action, Use) and action.search)


@dataclass(frozen=True)
class Exchange:
    """An earlier question of a conversation, and what was answered."""

    question: str
    answer: str


@dataclass(frozen=True)
class Question:
    """`images` are as they were given, at full resolution; crops are cut from them. The first is the papers' image.
    `answers` are the accepted ones, if known; `history`: the exchanges before a follow-up question, oldest first."""

    id: str
    text: str
    images: tuple[Image, ...] = ()
    answers: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Exchange, ...] = ()

    @property
    def image(self) -> Image | None:
        """The papers' image: the first."""
        return self.images[0] if self.images else None


@dataclass(frozen=True)
class Hit:
    """One search result. `score` is comparable only within one list. `matched`: does it show what was searched for
    (image search; None where that is unknown). `matched_by`: what that was told by, None where the provider said so
    itself: a comparison of its picture, or the provider's rank where there was no picture to compare."""

    title: str
    url: str
    snippet: str = ""
    score: float = 0.0
    image: Image | None = None
    matched: bool | None = None
    source: str = ""
    matched_by: MatchBasis | None = None


@dataclass(frozen=True)
class Grounding:
    """What became of a referring expression: the box used for the crop, or why the whole image was used.

    `outcome` is the same in one word: a box, one of several equally good ones, one over the whole image; or no box, a
    weak one, a tiny one, a grounder that failed or is missing. `candidates`: all that was found, best first.
    """

    phrase: str
    box: Box | None = None
    fallback: str | None = None
    outcome: GroundingOutcome | None = None
    candidates: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Cited:
    """A sentence (or the few that a hit is summarised in) and the hits it was taken from, by rank, counted from 1; none
    where its writer named none, and then it is not shown."""

    text: str
    hits: tuple[int, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a tool and its price. `tool`: text_search, image_search, grounder, reader, summarizer; `provider`
    carried it out. `cached`: answered without asking the provider, which takes no seconds and costs nothing. `bytes`
    were received, `cost` is in US dollars, `error` says why the call failed. `began`: seconds after its observation
    did; calls of one observation run side by side."""

    tool: str
    provider: str
    seconds: float
    bytes: int = 0
    cached: bool = False
    cost: float = 0.0
    error: str | None = None
    began: float = 0.0


@dataclass(frozen=True)
class Observation:
    """What comes back from a tool. An error is data that the policy reads; it never stops the episode. `calls` are in
    the order in which they began. `sentences`: the lines of `text` that tell of hits, with their hits.
    `summary_error`: why the summariser did not speak, where another spoke in its place. `unavailable`: what was asked
    for is not offered, or not equipped."""

    text: str
    images: tuple[Image, ...] = ()
    hits: tuple[Hit, ...] = ()
    error: str | None = None
    grounding: Grounding | None = None
    crop: Image | None = None
    calls: tuple[Call, ...] = ()
    sentences: tuple[Cited, ...] = ()
    summary_error: str | None = None
    unavailable: bool = False

    @property
    def cost(self) -> float:
        """US dollars."""
        return sum(call.cost for call in self.calls)

    @property
    def seconds(self) -> float:
        """Until the last of the calls was answered."""
        return max((call.began + call.seconds for call in self.calls), default=0.0)


@dataclass(frozen=True)
class Completion:
    """What the policy wrote. `ids` are the sampled tokens, verbatim, or None where the endpoint hides them;
    `logprobs` are natural logarithms, one per id. `finish`: the model stopped by itself (stop), ran into its token
    budget (length), or had no room left in its window (context); an endpoint's filter withheld it (filter), the model
    refused, in the words of the text (refusal), or it ended in another way that is no end of its own (cut).
    `prompt_tokens` were read and `tokens` sampled, None where that is not known (with `ids` they are counted).
    `seconds` is what writing took, with all waiting. `thoughts` came apart from the text; `remark`: what else is known
    of how it was written."""

    text: str
    ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    finish: Finish = "stop"
    prompt_tokens: int | None = None
    seconds: float = 0.0
    tokens: int | None = None
    thoughts: str = ""
    remark: str = ""

    @property
    def sampled(self) -> int | None:
        """Tokens, where their number is known."""
        return self.tokens if self.ids is None else len(self.ids)


@dataclass(frozen=True)
class Turn:
    completion: Completion
    action: Action
    observation: Observation | None = None

    @property
    def seconds(self) -> float:
        """The policy's and the tools'."""
        return self.completion.seconds + (self.observation.seconds if self.observation is not None else 0.0)

    @property
    def cost(self) -> float:
        """US dollars."""
        return self.observation.cost if self.observation is not None else 0.0


@dataclass(frozen=True)
class Limits:
    """The paper's limits (DeepMMSearch-R1, section 3; facts: 10 tool calls, 1 image search, 8192 response tokens).
    `told`: each observation ends with how many calls are left."""

    calls: int = 10
    image_searches: int = 1
    tokens: int = 8192
    told: bool = False

    @property
    def turns(self) -> int:
        return self.calls + 1


PAPER_LIMITS = Limits()


@dataclass(frozen=True)
class Prompt:
    """The exact texts an episode was played with: the trajectory holds them, so it is complete by itself.

    `user` holds `{question}`. `after`: the state texts, which follow an observation, by the state that it leaves:
    "image" after an image search, "text" after a text search, "malformed" after anything that was not an action, and
    what other tools call theirs. `functions`: what is offered where calls are those of functions, in OpenAI's form.
    """

    name: str
    dialect: str
    system: str
    user: str = "{question}"
    after: Mapping[str, str] = field(default_factory=dict, hash=False)
    functions: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)


@dataclass(frozen=True)
class Trajectory:
    """One episode, complete by itself: it can be re-rendered, re-scored, trained on or shown a year later.

    `context` is put before the first turn (the RAG workflow retrieves there); `query` is what the policy wrote to fill
    it. `stop` is None while it runs.
    """

    question: Question
    prompt: Prompt
    context: tuple[Observation, ...] = ()
    turns: tuple[Turn, ...] = ()
    stop: Stop | None = None
    error: str | None = None
    policy: str = ""
    query: Completion | None = None

    @property
    def answer(self) -> str | None:
        match self.turns[-1].action if self.turns else None:
            case Answer(text):
                return text
        return None

    @property
    def searches(self) -> tuple[Search, ...]:
        """What was searched, in order."""
        return tuple(t.action for t in self.turns if is_search(t.action))

    @property
    def pictures(self) -> tuple[Image, ...]:
        """Every picture of the episode; its place, counted from 1, is its number: the question's, then crops and
        thumbnails as they appeared."""
        seen = (*self.context, *(t.observation for t in self.turns if t.observation is not None))
        shown = (p for o in seen for p in ((o.crop,) if o.crop is not None else ()) + o.images)
        return (*self.question.images, *shown)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every tool call the episode made, the failed ones too."""
        seen = (*self.context, *(t.observation for t in self.turns if t.observation is not None))
        return tuple(call for observation in seen for call in observation.calls)

    @property
    def cost(self) -> float:
        """US dollars."""
        return sum(call.cost for call in self.calls)

    @property
    def seconds(self) -> float:
        """The policy's and the tools', before the first turn and after."""
        found = sum(observation.seconds for observation in self.context) + sum(turn.seconds for turn in self.turns)
        return found + (self.query.seconds if self.query is not None else 0.0)

    @property
    def completions(self) -> tuple[Completion, ...]:
        """All that the policy wrote."""
        return (*([self.query] if self.query is not None else ()), *(turn.completion for turn in self.turns))

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens that the policy read, each turn all of them anew; None where no completion tells."""
        known = [n for completion in self.completions if (n := completion.prompt_tokens) is not None]
        return sum(known) if known else None

    @property
    def sampled_tokens(self) -> int:
        """Where their number is known."""
        return sum(completion.sampled or 0 for completion in self.completions)

    def then(self, turn: Turn, limits: Limits) -> Trajectory:
        """The trajectory with one more turn; sets `stop` when the episode is over."""
        turns = (*self.turns, turn)
        stop: Stop | None = None
        if turn.completion.finish != "stop":
            stop = turn.completion.finish
        elif isinstance(turn.action, Answer):
            stop = "answer"
        elif len(turns) >= limits.turns:
            stop = "turns"
        elif sum(len(t.completion.ids or ()) for t in turns) >= limits.tokens:
            stop = "length"
        return replace(self, turns=turns, stop=stop)

    def failed(self, error: str) -> Trajectory:
        """The trajectory as it stands, stopped by an error outside the policy's reach."""
        return replace(self, stop="error", error=error)


@dataclass(frozen=True)
class TokenSequence:
    """A trajectory as tokens. `mask` is provenance: 1 where the policy sampled the token, 0 elsewhere.

    `logprobs` has one entry per id (0.0 where mask is 0). `images` are in order of their placeholders, one
    placeholder per image (the canonical form; a model's processor expands it to as many as the image has features).
    """

    ids: tuple[int, ...]
    mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    images: tuple[Image, ...]


class Policy(Protocol):
    """Reads a trajectory, writes the next completion."""

    async def act(self, trajectory: Trajectory) -> Completion: ...
