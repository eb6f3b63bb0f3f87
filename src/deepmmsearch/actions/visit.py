"""A page read at length: one that a search found, that a page just read links to, or that the question names.

Never one that the policy makes up, unless a recipe allows it: an address may carry words out of an episode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from deepmmsearch.agent.lines import Line, cut, join, one_line, summary_lines, unnumbered
from deepmmsearch.agent.metering import using
from deepmmsearch.agent.protocols import Page
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.agent.use import ArgumentTool, uses
from deepmmsearch.errors import ToolError, ToolMissing
from deepmmsearch.redaction import without_login
from deepmmsearch.types import Cited, Hit, Link, Observation, Question, Trajectory, Use

_ADDRESS = re.compile(r"(?:https?|file)://[^\s<>\"'`]+", re.IGNORECASE)
_AFTER = ".,;:!?)]}»”’。，、；：！？）】」』"
_LONGEST_TITLE, _LONGEST_LINK = 200, 80
_NUMBER = re.compile(r"\[?\s*(\d{1,4})\s*\]?")
Number = Annotated[int, Field(ge=1, le=9999)]


@dataclass(frozen=True)
class Reading:
    """What to open, or else the page that was opened last; and what of it."""

    hit: Number | None = None
    url: str | None = None
    link: Number | None = None
    part: Number | None = None
    find: str | None = None
    goal: str | None = None


class Visit(ArgumentTool[Reading]):
    """Reads a page. `limit`: how often in an episode; `part_length`: characters of a part; `links`: how many of those
    in a part are told of; `any_address`: whether a policy may open an address that nobody named."""

    name = "visit"
    arguments = Reading
    about = (
        'opens a page and reads it. {"hit": 2}: the hit [2] of the last search; {"url": "https://..."}: an address in '
        'the question or of a hit; {"link": 3}: the link [3] of the page opened last; without these, that page again. '
        'Add "part": 2 to read on, "find": "a word" for the lines that hold it, or "goal": "what you look for" for a '
        "summary of what serves it."
    )

    def __init__(
        self,
        limit: Annotated[int, Field(ge=1)] | None = None,
        part_length: Annotated[int, Field(ge=200)] = 4_000,
        links: Annotated[int, Field(ge=0, le=20)] = 8,
        any_address: bool = False,
    ) -> None:
        self.limit, self.part_length, self.links, self.any_address = limit, part_length, links, any_address

    def read(self, content: str) -> Use:
        if number := _NUMBER.fullmatch(content.strip()):
            return self.accept({"hit": int(number[1])})
        if _ADDRESS.fullmatch(content.strip()):
            return self.accept({"url": content.strip()})
        return super().read(content)

    def accept(self, arguments: Mapping[str, Any]) -> Use:
        asked = self._checked(arguments)
        if sum(given is not None for given in (asked.hit, asked.url, asked.link)) > 1:
            raise ValueError("takes one of hit, url and link.")
        if asked.find is not None and (asked.part is not None or asked.goal is not None):
            raise ValueError("takes find alone, or a part and a goal.")
        if asked == Reading() or any(given == "" for given in map(_stripped, (asked.url, asked.find, asked.goal))):
            raise ValueError('takes what to open, such as {"hit": 2}.')
        return super().accept(arguments)

    async def use(self, arguments: Reading, trajectory: Trajectory, tools: Toolbox) -> Observation:
        if tools.reader is None:
            raise ToolMissing("Pages cannot be opened here. Use another tool or answer.")
        url = self._address(arguments, trajectory)
        with using("reader", tools.reader):
            page = await tools.reader.read(url)
        room = max(500, tools.max_text - (_LONGEST_LINK + 15) * self.links)
        parts = _parts(page.text, min(self.part_length, room - _LONGEST_TITLE - 50), tools.max_line)
        if not parts:
            raise ToolError("There is nothing to read on this page.")
        if arguments.part is not None and arguments.part > len(parts):
            raise ToolError(f"The page has no part {arguments.part}, the last one is part {len(parts)}.")
        title = unnumbered(cut(one_line(page.title) or "untitled", _LONGEST_TITLE))
        if arguments.find is not None:
            lines, head = _found(arguments.find, parts), f'Lines with "{unnumbered(arguments.find)}" in: {title}'
            if not lines:
                lines = [Line(f"There are none in its {len(parts)} parts.")]
        elif arguments.goal is not None and (tools.summarizer is not None or tools.condenser is not None):
            chosen = parts if arguments.part is None else [parts[arguments.part - 1]]
            lines, head = await self._serving(arguments.goal, chosen, trajectory, tools), f"Summary of: {title}"
        else:
            number = arguments.part or 1
            lines = [Line(f"[1] {unnumbered(text)}", Cited(text, (1,))) for text in parts[number - 1]]
            head = f"Part {number} of {len(parts)} of: {title}"
        text, sentences = join([Line(head), *lines], room)
        links = _links_in(page, sentences)[: self.links]
        told = (f"[{n}] link: {unnumbered(cut(link.text, _LONGEST_LINK))}" for n, link in enumerate(links, 2))
        text = "\n".join([text, *told])
        snippet = cut(one_line(" ".join(sentence.text for sentence in sentences)), 400)
        read = Hit(page.title, page.url, snippet, source=self.name)
        return Observation(
            text, hits=(read, *(Hit(link.text, link.url, source=self.name) for link in links)), sentences=sentences
        )

    def _address(self, asked: Reading, trajectory: Trajectory) -> str:
        """With the user's own login where he named this page with one. Raises ToolError for what there is not, or may
        not be opened."""
        with_login = [url for url in _written(trajectory.question) if without_login(url) != url]
        if with_login and asked.hit is asked.url is asked.link is None:
            # what was asked for, and not where that led to: the login belongs to the former
            before = next(_earlier(trajectory, self.name), None)
            again = self._address(self._checked(before[0].arguments), before[1]) if before else ""
            if again in with_login:
                return again
        address = self._plain_address(asked, trajectory)
        sought = _alike(without_login(address))
        return next((url for url in with_login if _alike(without_login(url)) == sought), address)

    def _plain_address(self, asked: Reading, trajectory: Trajectory) -> str:
        visited = [observation for observation in uses(trajectory, self.name) if observation.hits]
        if asked.hit is not None:
            return _address_of(_last_hits(trajectory, self.name), asked.hit, "hit", "the last search")
        if asked.link is not None:
            links = visited[-1].hits if visited else ()
            if asked.link == 1:
                raise ToolError("[1] is the page itself. Its links have the numbers from [2] on.")
            return _address_of(links, asked.link, "link", "the page that was opened last")
        if asked.url is None:
            if not visited:
                raise ToolError('No page was opened yet. Name one, such as {"hit": 1}.')
            return visited[-1].hits[0].url
        wanted = asked.url.strip()
        sought = _alike(without_login(wanted))
        known = next((url for url in _named(trajectory) if _alike(without_login(url)) == sought), None)
        if known is None and not self.any_address:
            raise ToolError(
                "This address stands neither in the question nor among the hits, so it is not opened. "
                'Open a hit by its number, such as {"hit": 1}, or search.'
            )
        return known or wanted

    async def _serving(
        self, goal: str, parts: Sequence[Sequence[str]], trajectory: Trajectory, tools: Toolbox
    ) -> list[Line]:
        """What of the parts serves the goal; they are read as so many passages as a search has."""
        size = -(-len(parts) // tools.text_hits)
        passages = [
            "\n".join(line for part in parts[n : n + size] for line in part) for n in range(0, len(parts), size)
        ]
        summary = await tools.summarize(trajectory.question.text, goal, passages, "text")
        if summary.condensed:
            lines = summary_lines(summary.sentences, [1] * len(passages))
        else:
            lines = [Line(f"[1] {unnumbered(text)}", Cited(text, (1,))) for text in summary.texts if text.strip()]
        if not any(line.text for line in lines):
            lines = [Line("Nothing on the page serves this.")]
        return [*summary.remarks, *lines]


def _stripped(text: str | None) -> str | None:
    return text.strip() if text is not None else None


def _address_of(hits: Sequence[Hit], number: int, what: str, where: str) -> str:
    if not hits:
        raise ToolError(f"There is no {what} {number}: nothing was found yet.")
    if number > len(hits):
        raise ToolError(f"There is no {what} [{number}] of {where}, the last one is [{len(hits)}].")
    if not hits[number - 1].url:
        raise ToolError(f"The {what} [{number}] has no address.")
    return hits[number - 1].url


def _observations(trajectory: Trajectory) -> Iterator[tuple[str, Observation]]:
    """Each with the name of the tool that brought it, where that is not one of the searches."""
    for observation in trajectory.context:
        yield "", observation
    for turn in trajectory.turns:
        if turn.observation is not None:
            yield turn.action.tool if isinstance(turn.action, Use) else "", turn.observation


def _earlier(trajectory: Trajectory, tool: str) -> Iterator[tuple[Use, Trajectory]]:
    """The uses of a tool that brought something, each with what was before it; the last one first."""
    for number, turn in reversed(list(enumerate(trajectory.turns))):
        action, seen = turn.action, turn.observation
        if isinstance(action, Use) and action.tool == tool and seen is not None and seen.error is None and seen.hits:
            yield action, replace(trajectory, turns=trajectory.turns[:number])


def _last_hits(trajectory: Trajectory, own: str) -> Sequence[Hit]:
    found = [observation.hits for tool, observation in _observations(trajectory) if observation.hits and tool != own]
    return found[-1] if found else ()


def _named(trajectory: Trajectory) -> Iterator[str]:
    """The addresses that may be opened: those of hits and links, and those that the user wrote."""
    for _, observation in _observations(trajectory):
        yield from (hit.url for hit in observation.hits if hit.url)
    yield from _written(trajectory.question)


def _written(question: Question) -> Iterator[str]:
    """The addresses that the user wrote."""
    for text in (question.text, *(exchange.question for exchange in question.history)):
        for found in _ADDRESS.findall(text):
            yield from _readings(found)


def _readings(found: str) -> Iterator[str]:
    """An address in a text, with and without the punctuation at its end."""
    yield found
    while found and found[-1] in _AFTER:
        found = found[:-1]
        yield found


def _alike(url: str) -> str:
    """Two addresses of the same page are alike: without the case of the host, a fragment on the web, a slash at the
    end."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    scheme = scheme.lower()
    if scheme in ("http", "https"):
        host, path = host.lower(), path.partition("#")[0]
    return f"{scheme}{mark}{host}{slash}{path}".rstrip("/")


def _parts(text: str, length: int, longest: int) -> list[list[str]]:
    """The lines of a page, the long ones cut between words, as parts of about `length` characters."""
    parts: list[list[str]] = []
    room = 0
    for line in _lines(text, max(1, min(longest, length) - 10)):
        taken = len(line) + 5  # its number and the line's end
        if taken > room or not parts:
            parts.append([])
            room = length
        parts[-1].append(line)
        room -= taken
    return parts


def _lines(text: str, longest: int) -> Iterator[str]:
    for line in map(one_line, text.splitlines()):
        while len(line) > longest:
            at = line.rfind(" ", 1, longest + 1)
            at = at if at > 0 else longest
            yield line[:at].rstrip()
            line = line[at:].lstrip()
        if line:
            yield line


def _found(wanted: str, parts: Sequence[Sequence[str]]) -> list[Line]:
    sought = one_line(wanted).casefold()
    return [
        Line(f"[1] (part {number}) {unnumbered(line)}", Cited(line, (1,)))
        for number, part in enumerate(parts, 1)
        for line in part
        if sought in line.casefold()
    ]


def _links_in(page: Page, sentences: Sequence[Cited]) -> list[Link]:
    """Those whose words stand in what is shown; of a reader that tells of none, the addresses that are written out."""
    shown = " ".join(one_line(sentence.text) for sentence in sentences)
    if not page.links:
        written = (without_login(list(_readings(found))[-1]) for found in _ADDRESS.findall(shown))
        own = _alike(without_login(page.url))
        return [Link(url, url) for url in dict.fromkeys(written) if len(url) <= 2_000 and _alike(url) != own]
    return [link for link in page.links if len(link.text) > 1 and one_line(link.text) in shown]
