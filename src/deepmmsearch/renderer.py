"""Trajectory -> chat messages | tokens: the only code that renders and tokenises.

The ids of a turn are a prefix of those of the next: the prompt comes from the chat template once, sampled ids are
appended verbatim, and what the template puts between a completion and the next one (the bridge) follows unmasked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Protocol

from PIL.Image import Image

from deepmmsearch.agent.dialect import CallResult, Dialect, Placing, ToldHit, find_dialect, written_tags
from deepmmsearch.agent.lines import one_line
from deepmmsearch.agent.table import state
from deepmmsearch.errors import UserError
from deepmmsearch.escaping import break_tokens, escape_chat_tokens, escape_observation, is_control, token_pattern
from deepmmsearch.types import Hit, Observation, TextSearch, TokenSequence, Trajectory, Turn

Message = dict[str, Any]
Template = Callable[[list[Message], bool], str]
Parts = tuple[str | None, ...]
"""Of a message: a text, or None for the next picture."""

PICTURES = "{images}"
"""Where a question's pictures stand in the user's text of a prompt set; without it, where the dialect puts them."""

# Stands for a completion while the template is asked what it puts around one: plain letters, so that no template
# trims it and no tokenizer merges it with a special token.
_SENTINEL = "completionsentinel"
# The numbers of the lines of an observation (`agent.lines`) and, at the end of a line, those of the hits it rests on.
_NUMBERS = re.compile(r"^\[\d{1,3}\](?= )|(?<= )(?:\[\d{1,3}\])+$", re.MULTILINE)


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    @property
    def all_special_tokens(self) -> list[str]: ...
    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]: ...
    @property
    def unk_token_id(self) -> Any: ...
    def apply_chat_template(
        self, conversation: list[Message], *, tokenize: bool, add_generation_prompt: bool
    ) -> Any: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def convert_tokens_to_ids(self, tokens: str) -> Any: ...
    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> Any: ...


def messages(trajectory: Trajectory) -> tuple[list[Message], list[Image]]:
    """The conversation so far in transformers' multimodal format, and its images in the order of their `image` parts.

    What users, pages and tools wrote is escaped (`escaping.escape_observation`); what the policy wrote is kept, with
    chat tokens disarmed.
    """
    return _messages(trajectory, escape_chat_tokens, said)


def said(text: str) -> str:
    """What the policy wrote: chat tokens are disarmed, the tags of its dialect are not."""
    return escape_chat_tokens(text, written_tags())


class Renderer:
    """Renders trajectories for one tokenizer and its chat template.

    `image_token` is the placeholder that the template writes for an image; the default is what the tokenizer calls
    its image token. `view` makes of an image what the model sees (`images.model_view` with its bounds): it is applied
    here, so that the policy and the trainer see the same pixels. `template` renders a conversation, with or without the
    beginning of a reply; the default is the tokenizer. Raises UserError for a tokenizer without a usable chat template.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        image_token: str | None = None,
        view: Callable[[Image], Image] | None = None,
        template: Template | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._template = template
        self.view = view or (lambda image: image)
        self.image_token = image_token or getattr(tokenizer, "image_token", None) or "<|image_pad|>"
        self.image_id = self._special_id(self.image_token)
        self.end_text, self.end_id = self._end_of_turn()
        added = {n: t for n, t in tokenizer.added_tokens_decoder.items() if t.special or is_control(str(t))}
        special = {*tokenizer.all_special_tokens, self.image_token}
        self._special, self._control = token_pattern(special), token_pattern({*special, *map(str, added.values())})
        self._control_ids = frozenset(added) - {tokenizer.unk_token_id}
        # Every turn renders the episode so far; what was rendered and encoded before is remembered, not done again.
        self.disarm = lru_cache(maxsize=4096)(self._disarm)
        self._encode = lru_cache(maxsize=4096)(self._encode_uncached)
        self._bridge = lru_cache(maxsize=4096)(self._bridge_uncached)

    def sequence(self, trajectory: Trajectory, *, teacher: bool = False) -> TokenSequence:
        """The trajectory as tokens: the prompt of the next turn while it runs, the training row when it has stopped.

        `teacher`: completions without ids were written, not sampled; their text and the end of the turn are encoded
        and count as the policy's (mask 1), so that fine-tuning teaches stopping. Without it, a completion without ids
        raises UserError: a guess at sampled tokens is never trained on.
        """
        built = _Builder(self.image_id)
        opening, pictures = _messages(trajectory, self.disarm, self._said, turns=())
        built.add(self._encode(self.render(opening)), 0)
        built.images += [self.view(p) for p in pictures]
        for number, turn in enumerate(trajectory.turns):
            ended = self._add_completion(built, turn, number, teacher)
            if turn.observation is None or (trajectory.stop is not None and number + 1 == len(trajectory.turns)):
                break
            built.add(self._bridge(_reply(turn, turn.observation, trajectory, self.disarm), ended), 0)
            built.images += [self.view(p) for p in turn.observation.images]
        return built.build()

    def harmless(self, conversation: Sequence[Message]) -> list[Message]:
        """A conversation in transformers' format in whose texts no added token of the tokenizer stands."""
        return [
            {**message, "content": self.disarm(said) if isinstance(said, str) else [self._part(part) for part in said]}
            for message in conversation
            for said in (message["content"],)
        ]

    def _part(self, part: Mapping[str, Any]) -> Message:
        return {**part, "text": self.disarm(part["text"])} if part.get("type") == "text" else dict(part)

    def expand(self, ids: Sequence[int], pictures: Sequence[int | Sequence[int]]) -> list[int]:
        """The ids as the model wants them: placeholder i repeated pictures[i] times, or replaced by those ids."""
        return [i for run in self._runs(ids, pictures) for i in run]

    def expand_sequence(self, sequence: TokenSequence, pictures: Sequence[int | Sequence[int]]) -> TokenSequence:
        """`expand` for ids, mask and logprobs together."""
        runs = self._runs(sequence.ids, pictures)
        spread = [i for i, run in enumerate(runs) for _ in run]
        return TokenSequence(
            tuple(i for run in runs for i in run),
            tuple(sequence.mask[i] for i in spread),
            tuple(sequence.logprobs[i] for i in spread),
            sequence.images,
        )

    def _runs(self, ids: Sequence[int], pictures: Sequence[int | Sequence[int]]) -> list[Sequence[int]]:
        """What each id becomes."""
        left = [(self.image_id or 0,) * p if isinstance(p, int) else p for p in reversed(pictures)]
        found = ids.count(self.image_id) if self.image_id is not None else 0
        if found != len(left):
            raise ValueError(f"{found} image placeholders cannot be expanded for {len(left)} pictures.")
        return [left.pop() if i == self.image_id else (i,) for i in ids]

    def _disarm(self, text: str) -> str:
        """Text from outside that stays text: no added token of this tokenizer comes of it (`escaping.is_control`)."""
        broken = break_tokens(escape_chat_tokens(text), self._control)
        # A tokenizer may rewrite what it reads in ways of its own: then no mark is left that could be part of a token.
        for harmless in (broken, "".join(c if c.isalnum() or c.isspace() else " " for c in broken)):
            if self._control_ids.isdisjoint(self._encode(harmless)):
                return harmless
        return ""

    def _said(self, text: str) -> str:
        return break_tokens(said(text), self._special)

    def _add_completion(self, built: _Builder, turn: Turn, number: int, teacher: bool) -> bool:
        """Appends what the policy wrote; tells whether that ends the turn."""
        completion = turn.completion
        if completion.ids is not None:
            if self.image_id is not None and self.image_id in completion.ids:
                raise ValueError(f"Turn {number + 1} samples the image placeholder {self.image_token}; suppress it.")
            built.add(completion.ids, 1, completion.logprobs)
            return bool(completion.ids) and completion.ids[-1] == self.end_id
        if not teacher:
            raise UserError(
                f"Turn {number + 1} has no token ids: the endpoint hides them. Use the local policy, an endpoint that "
                "returns token ids, or train on the text as teacher data."
            )
        built.add([*self._encode(self._said(completion.text)), self.end_id], 1)
        return True

    def _bridge_uncached(self, parts: Parts, ended: bool) -> tuple[int, ...]:
        """What stands between a completion and the next one; the end of the turn only if the policy left it out."""
        said = {"role": "assistant", "content": [_text(_SENTINEL)]}
        text = self.render([_user(_text("?")), said, _message(parts)])
        rest = text.split(_SENTINEL, 1)[1].removeprefix(self.end_text)
        return (*(() if ended else self._encode(self.end_text)), *self._encode(rest))

    def _end_of_turn(self) -> tuple[str, int]:
        """What the template writes at the end of a completion, up to its special token, and that token's id."""
        said = [_user(_text("?")), {"role": "assistant", "content": [_text(_SENTINEL)]}]
        tail = self.render(said, reply=False).split(_SENTINEL, 1)[-1]
        special = [t for t in self.tokenizer.all_special_tokens if t in tail]
        first = min(special, key=tail.index, default=None)
        end_id = self._special_id(first) if first else None
        if first is None or end_id is None:
            raise UserError(
                f"The chat template ends a completion with {tail!r}, which holds no special token. "
                "Use a model whose template marks the end of a turn."
            )
        return tail[: tail.index(first) + len(first)], end_id

    def render(self, conversation: list[Message], reply: bool = True) -> str:
        """The conversation as text, with the beginning of a `reply`. Raises UserError where the template cannot."""
        try:
            if self._template is not None:
                return self._template(conversation, reply)
            text = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=reply)
        except ValueError as error:
            raise UserError(f"The tokenizer cannot render a conversation: {error}") from None
        return str(text)

    def _special_id(self, token: str) -> int | None:
        """The id of a token that is one token, else None."""
        ids = self.tokenizer.encode(token, add_special_tokens=False)
        return ids[0] if len(ids) == 1 and ids[0] == self.tokenizer.convert_tokens_to_ids(token) else None

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


class _Builder:
    """A token sequence in the making: every token arrives together with its provenance."""

    def __init__(self, image_id: int | None) -> None:
        self.image_id = image_id
        self.ids: list[int] = []
        self.mask: list[int] = []
        self.logprobs: list[float] = []
        self.images: list[Image] = []

    def add(self, ids: Sequence[int], mask: int, logprobs: Sequence[float] | None = None) -> None:
        if logprobs is not None and len(logprobs) != len(ids):
            raise ValueError(f"A completion has {len(ids)} ids but {len(logprobs)} logprobs.")
        self.ids += ids
        self.mask += [mask] * len(ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(ids)

    def build(self) -> TokenSequence:
        placeholders = self.ids.count(self.image_id) if self.image_id is not None else 0
        if placeholders != len(self.images):
            raise UserError(
                f"The chat template wrote {placeholders} image placeholders for {len(self.images)} images. "
                "Use a vision-language model whose tokenizer has one placeholder token per image."
            )
        return TokenSequence(tuple(self.ids), tuple(self.mask), tuple(self.logprobs), tuple(self.images))


def _messages(
    trajectory: Trajectory,
    clean: Callable[[str], str],
    own: Callable[[str], str],
    turns: Sequence[Turn] | None = None,
) -> tuple[list[Message], list[Image]]:
    """`clean`: for what others wrote; `own`: for what the policy wrote."""
    prompt, question = trajectory.prompt, trajectory.question
    dialect, foreign = find_dialect(prompt.dialect), partial(_foreign, clean=clean)
    conversation = [{"role": "system", "content": [_text(prompt.system)]}] if prompt.system else []
    for earlier in question.history:
        conversation.append(_user(_text(foreign(earlier.question))))
        conversation.append({"role": "assistant", "content": [_text(foreign(earlier.answer))]})
    opening = _message(_asked(trajectory, dialect, foreign(question.text)))
    pictures = [*question.images]
    for found in trajectory.context:
        opening["content"] += [*_image_parts(len(found.images)), _text(f"\n{_observed(found, dialect, clean)}")]
        pictures += found.images
    conversation.append(opening)
    for turn in trajectory.turns if turns is None else turns:
        conversation.append({"role": "assistant", "content": [_text(own(turn.completion.text))]})
        if turn.observation is not None:
            conversation.append(_message(_reply(turn, turn.observation, trajectory, clean)))
            pictures += turn.observation.images
    return conversation, pictures


def _asked(trajectory: Trajectory, dialect: Dialect, question: str) -> Parts:
    """The user's text with the question, and its pictures where they belong."""
    count, numbering = len(trajectory.question.images), dialect.numbering(len(trajectory.question.images))
    shown: Parts = (None,) * count
    before, marked, rest = (part.replace("{question}", question) for part in trajectory.prompt.user.partition(PICTURES))
    if marked:
        return (*((before,) if before else ()), *shown, rest + numbering)
    asked = before + numbering
    return (*shown, asked) if dialect.pictures == "before" else (asked, *shown)


def _reply(turn: Turn, found: Observation, trajectory: Trajectory, clean: Callable[[str], str]) -> Parts:
    """What carries an observation, with the state text that belongs to the call."""
    dialect, left, texts = find_dialect(trajectory.prompt.dialect), state(turn.action), trajectory.prompt.after
    shown, after = len(found.images), texts.get(left, "")
    if not isinstance(dialect, Placing):
        return (*(None,) * shown, _observed(found, dialect, clean) + (f"\n{after}" if after else ""))
    foreign = partial(_foreign, clean=clean)
    pictured = [hit for hit in found.hits if hit.image is not None][:shown]
    parts = dialect.place(
        CallResult(
            left,
            foreign(turn.action.query) if isinstance(turn.action, TextSearch) else "",
            _harmless(found.text, clean),
            found.error is not None,
            foreign(trajectory.question.text),
            shown,
            tuple(foreign(one_line(hit.title)) for hit in pictured) if len(pictured) == shown else (),
            _passages(found, foreign),
            texts.get(f"head_{left}", ""),
            after,
        )
    )
    if parts.count(None) != shown:
        raise ValueError(f"The dialect {dialect.name} places {parts.count(None)} of {shown} pictures.")
    return parts


def _passages(found: Observation, foreign: Callable[[str], str]) -> tuple[ToldHit, ...]:
    """The hits that were told of, each with all that cites it."""

    def passage(hit: Hit, rank: int) -> ToldHit:
        said = " ".join(one_line(cited.text) for cited in found.sentences if rank in cited.hits)
        return ToldHit(foreign(one_line(hit.title)), foreign(one_line(hit.url)), foreign(said))

    return tuple(p for rank, hit in enumerate(found.hits, 1) if (p := passage(hit, rank)).text)


def _observed(found: Observation, dialect: Dialect, clean: Callable[[str], str]) -> str:
    return dialect.observation(_harmless(found.text, clean))


def _harmless(observed: str, clean: Callable[[str], str]) -> str:
    """The numbers of its lines are ours, and may be tokens; all else may not."""
    text, parts, at = escape_observation(observed, written_tags()), [], 0
    for number in _NUMBERS.finditer(text):
        parts += [clean(text[at : number.start()]), number.group()]
        at = number.end()
    return "".join([*parts, clean(text[at:])])


def _foreign(text: str, clean: Callable[[str], str]) -> str:
    """Text of users, pages and tools. `clean` comes last: what it disarms must not come back when invisible characters
    are dropped."""
    return clean(escape_observation(text, written_tags()))


def _message(parts: Parts) -> Message:
    return _user(*({"type": "image"} if part is None else _text(part) for part in parts))


def _user(*parts: dict[str, str]) -> Message:
    return {"role": "user", "content": list(parts)}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _image_parts(count: int) -> list[dict[str, str]]:
    return [{"type": "image"} for _ in range(count)]
