"""Every regular expression of the package takes a time that grows with its text, not with the square of it.

The patterns are found in the source, so that a new one is tried as well. Each is given texts made from itself: its
characters and beginnings, repeated, and what almost matches. What is bounded before it meets a pattern is in BOUNDED,
with the reason. The functions around them, and those without a pattern, are below.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from deepmmsearch.agent.dialect import DIALECTS, parse_action, parse_reason
from deepmmsearch.data.knowledge import without_placeholders
from deepmmsearch.engine.chunks import Outline, passages
from deepmmsearch.escaping import escape_chat_tokens, escape_observation, escape_tags
from deepmmsearch.judge.llm import read_verdict
from deepmmsearch.judge.rules import JUDGES
from deepmmsearch.normal_forms import normal_form
from deepmmsearch.notation import parse_json
from deepmmsearch.prompts import load_prompt
from deepmmsearch.reading.document import Heading
from deepmmsearch.reading.manual_page import from_manual_page
from deepmmsearch.reading.markdown import from_markdown
from deepmmsearch.reading.plain_text import from_text
from deepmmsearch.reading.rst import from_rst
from deepmmsearch.redaction import Redaction, public_address, public_settings, secrets_in
from deepmmsearch.show.citations import find_sources, read_sources
from deepmmsearch.tools.addresses import Refused, join_address, read_address
from deepmmsearch.tools.grounding.boxes import parse_boxes
from deepmmsearch.tools.llm_summarizer import fenced, read_citations
from deepmmsearch.tools.providers.api import plain, web_address
from deepmmsearch.tools.providers.retrieve import _hit
from deepmmsearch.tools.summarizer import ExtractiveSummarizer, split_line, split_sentences, terms
from deepmmsearch.types import Answer, Completion, Hit, Observation, Question, TextSearch, Trajectory, Turn

SOURCE = Path(__file__).parent.parent / "src" / "deepmmsearch"
LONG, SHORT = 100_000, 400
SECONDS = 2.5
"""Of processor time for a long text: what is linear takes a tenth of it, what is quadratic ten times as long."""

FUNCTIONS = ("compile", "sub", "subn", "search", "match", "fullmatch", "findall", "finditer", "split")
AT_ONE_PLACE = ("search", "match", "fullmatch")
BOUNDED: dict[tuple[str, str], str] = {
    ("deepmmsearch.judge.statement", r"(?<!\bis)"): "answers of more than 600 characters are not read",
}
UNKNOWN: dict[str, str] = {
    "deepmmsearch.redaction": "a key's own letters, one after the other; tried below",
    "deepmmsearch.policies.bounded": "it runs a stranger's patterns, in a process that is ended",
    "deepmmsearch.escaping": "an alternative for each added token, told apart by its first character",
    "deepmmsearch.engine.exclusions": "a name against the stars of one part: fnmatch never goes back over one",
    "deepmmsearch.atlas.oracle": "sentences of an invented world, with a name in them",
}
"""Modules with a pattern that is known when they run; why it is linear all the same."""


@dataclass(frozen=True)
class Use:
    """A pattern of one module, and the ways in which it is put to a text."""

    module: str
    pattern: re.Pattern[Any]
    ways: frozenset[str]

    def __str__(self) -> str:
        return f"{self.module.removeprefix('deepmmsearch.')} {str(self.pattern.pattern)[:40]!r}"


# Which patterns there are


@cache
def trees() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str, str]]:
    """Calls of methods that are named like those of `re`, with what they are called on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FUNCTIONS:
            on = node.func.value
            on = on.func if isinstance(on, ast.Call) else on
            yield node, on.id if isinstance(on, ast.Name) else getattr(on, "attr", ""), node.func.attr


def evaluated(module: str, node: ast.expr) -> Any:
    """The value of an expression of a module's own names; what only a function knows stands as x."""
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.FormattedValue) else p for p in node.values)
        return "".join(str(evaluated(module, part)) for part in parts)
    if isinstance(node, ast.Constant):
        return node.value
    try:
        return eval(compile(ast.Expression(node), module, "eval"), dict(vars(importlib.import_module(module))))
    except NameError:
        return "x"


def flags(module: str, call: ast.Call, how: str) -> int:
    position = {"compile": 1, "sub": 4, "subn": 4, "split": 3}.get(how, 2)
    given = [k.value for k in call.keywords if k.arg == "flags"] + call.args[position : position + 1]
    return int(evaluated(module, given[0])) if given else 0


def kept_name(tree: ast.Module, call: ast.Call) -> str:
    """What a compiled pattern is called: by its assignment, or by the function that gives it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.FunctionDef) and call in ast.walk(node):
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            name = (
                node.name if isinstance(node, ast.FunctionDef) else getattr(target, "id", getattr(target, "attr", ""))
            )
            if name:
                return str(name)
    return ""


@cache
def uses() -> list[Use]:
    parsed, found = trees(), []
    called: dict[str, set[str]] = {}
    for tree in parsed.values():
        for _, on, how in calls(tree):
            called.setdefault(on, set()).add(how)
    for module, tree in parsed.items():
        own: dict[str, set[str]] = {}
        for _, on, how in calls(tree):
            own.setdefault(on, set()).add(how)
        for call, on, how in calls(tree):
            if on != "re":
                continue
            ways = {how}
            if how == "compile":
                name = kept_name(tree, call)
                ways = own.get(name) or called.get(name) or {"finditer"}
            source = evaluated(module, call.args[0])
            patterns = [re.compile(source, flags(module, call, how))]
            if source == "x" and how == "compile":
                patterns = [p for p in _held(module) if p.pattern not in {u.pattern.pattern for u in found}]
            assert source != "x" or module in UNKNOWN or patterns, f"{module}: a pattern that is not known beforehand"
            found += [Use(module, p, frozenset(w if w in AT_ONE_PLACE else "finditer" for w in ways)) for p in patterns]
    return [use for use in found if use.pattern.pattern != "x"]


def _held(module: str) -> list[re.Pattern[Any]]:
    """Patterns in the module's own tuples."""
    values = (v for v in vars(importlib.import_module(module)).values() if isinstance(v, tuple))
    return [p for value in values for p in value if isinstance(p, re.Pattern)]


# Texts made from a pattern

REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
CATEGORIES = {
    codes.CATEGORY_DIGIT: "1",
    codes.CATEGORY_SPACE: " \n",
    codes.CATEGORY_WORD: "a1",
    codes.CATEGORY_NOT_DIGIT: "a ",
    codes.CATEGORY_NOT_SPACE: "a",
    codes.CATEGORY_NOT_WORD: " -",
}
Make = Callable[[int], str]
"""A text of about that length."""


def members(items: Sequence[Any]) -> str:
    """Some of the characters of a class."""
    if items[0][0] is codes.NEGATE:
        taken = set(members(items[1:])) | {chr(at) for op, a in items[1:] if op is codes.RANGE for at in range(*a)}
        return "".join(c for c in "a1 -<[\n" if c not in taken) or "é"
    known = {codes.LITERAL: chr, codes.RANGE: lambda ends: chr(ends[0]), codes.CATEGORY: CATEGORIES.__getitem__}
    return "".join(known[op](value) for op, value in items)


@dataclass
class Speller:
    """Writes a text that a parsed pattern matches: repeat number `pumped` is as long as it may, all others as short;
    of classes and alternatives the one of number `choice` is taken. `beginnings`: what stood there on the way."""

    pumped: int = -1
    size: int = 0
    choice: int = 0
    repeats: int = 0
    groups: dict[int, str] = field(default_factory=dict)
    beginnings: list[str] = field(default_factory=list)

    def spell(self, parsed: Any, before: str = "") -> str:
        text = ""
        for op, value in parsed:
            text += self._part(op, value, before + text)
            self.beginnings.append(before + text)
        return text

    def _part(self, op: Any, value: Any, before: str) -> str:
        if op is codes.LITERAL:
            return chr(value)
        if op in (codes.NOT_LITERAL, codes.ANY):
            return "b" if value == ord("a") else "a"
        if op is codes.IN:
            among = members(value)
            return among[self.choice % len(among)]
        if op is codes.BRANCH:
            return self.spell(value[1][self.choice % len(value[1])], before)
        if op is codes.SUBPATTERN:
            self.groups[value[0]] = self.spell(value[3], before)
            return self.groups[value[0]]
        if op is codes.GROUPREF:
            return self.groups.get(value, "")
        return self._repeat(*value, before) if op in REPEATS else ""

    def _repeat(self, low: int, high: int, parsed: Any, before: str) -> str:
        own, self.repeats = self.repeats, self.repeats + 1
        once = self.spell(parsed, before)
        times = min(int(high), self.size // max(1, len(once))) if own == self.pumped else 0
        return once * max(1, low, times)


def letters(parsed: Any) -> set[str]:
    """The characters of which the texts of a pattern are made."""
    found: set[str] = set()
    for op, value in parsed:
        if op is codes.LITERAL:
            found.add(chr(value))
        elif op is codes.IN:
            found.update(members(value)[:3])
        elif op in (codes.ANY, codes.NOT_LITERAL):
            found.add("a")
        else:
            within = value[1] if op is codes.BRANCH else [value[-1]] if isinstance(value, tuple) else []
            for part in within:
                found |= letters(part) if isinstance(part, parser.SubPattern) else set()
    return found


def attacks(pattern: re.Pattern[Any]) -> Iterator[Make]:
    parsed = parser.parse(pattern.pattern, pattern.flags)
    alphabet = sorted(letters(parsed))[:8] or ["a"]
    for a in alphabet:
        yield lambda n, a=a: a * n
        for b in alphabet:
            yield lambda n, a=a, b=b: (a + b) * (n // 2)
            yield lambda n, a=a, b=b: a * (n // 2) + b * (n // 2)
            yield lambda n, a=a, b=b: (a + b * 8) * (n // 9)
    plain = Speller()
    plain.spell(parsed)
    for start in sorted(set(plain.beginnings) - {""}):
        yield lambda n, s=start: s * (n // len(s))
        for c in alphabet[:6]:
            yield lambda n, s=start, c=c: s + c * n + "\0"
            yield lambda n, s=start, c=c: (s + c * 9) * (n // (len(s) + 9))
    for choice in range(3):
        for pumped in range(plain.repeats):
            for end in "\0\n a":
                yield lambda n, p=pumped, c=choice, e=end: Speller(p, n, c).spell(parsed)[: 2 * n] + e


def seconds(pattern: re.Pattern[Any], way: str, text: str) -> float:
    """Of processor time: a busy machine must not make a pattern look slow."""
    given: Any = text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")
    began = time.process_time()
    found = getattr(pattern, way)(given)
    if way == "finditer":
        for _ in found:
            pass
    return time.process_time() - began


@pytest.mark.parametrize("use", uses(), ids=str)
def test_a_pattern_takes_time_in_proportion_to_its_text(use: Use) -> None:
    allowed = [reason for (module, start), reason in BOUNDED.items() if _is(use, module, start)]
    makes = list(attacks(use.pattern))
    for way in sorted(use.ways):
        # the worst for a short text is tried with ever longer ones, and given up in time
        worst = sorted(makes, key=lambda make: seconds(use.pattern, way, make(SHORT)), reverse=True)[:2]
        slow = [make(60) for make in worst if not _in_time(use.pattern, way, make)]
        assert bool(slow) == bool(allowed), f"{use.pattern.pattern!r} ({way}): slow on {slow}, BOUNDED says {allowed}"


def _in_time(pattern: re.Pattern[Any], way: str, make: Make) -> bool:
    before = 0.0
    for length in (SHORT, 8 * SHORT, LONG // 5, LONG):
        spent = seconds(pattern, way, make(length))
        if spent > SECONDS * max(0.05, length / LONG):
            return False
        # with the square, or even the cube of the length, it would still be harmless
        if length == LONG // 5 and spent < 0.003:
            return True
        # five times as long takes 25 times as long
        if length == LONG and spent > 0.2 and spent > 12 * before:
            return False
        before = spent
    return True


def _is(use: Use, module: str, start: str) -> bool:
    return use.module == module and str(use.pattern.pattern).startswith(start)


def test_what_is_said_to_be_bounded_is_there() -> None:
    for module, start in BOUNDED:
        assert any(_is(use, module, start) for use in uses()), (module, start)
    assert set(UNKNOWN) <= set(trees())


# The functions around them

HOSTILE = (
    *("a", "1", " ", "\n", " \n", "\u3000", ". ", "! ", "e.g. ", "A.B. ", "a\n", "Ab c", "a ", "\ud800"),
    *("<", "< ", "</", "<reason>", "</reason ", "<reason></reason>", "<answer>", "</answer>", "<answer>a</answer>"),
    *("<text_search>", "<img ", "<img_search>", "</s>", "<|im_end|>", "<|im_end|>\n", "<think>", "</think>"),
    *("[", "[ ", "[1] ", "[1, 2]. ", "[1,", "(1, 2) ", "[1, 2], ", '[[1, "2', "{", '{"a": ', "[0, 0, 9, 9] "),
    *("\ue0000\ue001", "\u0327\u0301", "\uff9e\u0301", "\u0f73\u0301", "\ufdfa", "<image>", "x" * 41 + "\n"),
    *("&", "&#9", "&lt;", "&amp;", "&#" + "9" * 5_000, "# a ", "# a #", "![a](b", "![](a) ", "[a](", "**", "*a "),
    *("_", "- ", "| ", "http://", "http://a", "://", "?key=", "over 5 ", "5 - 6 ", "1912 ", "12 May 1912, "),
    *("5 ft ", "one and ", "one trillion ", "x, not ", "$", "5'"),
)


def episode(turn: str, snippet: str, answer: str, read: str = "[1] a") -> Trajectory:
    search = Turn(Completion(turn), TextSearch("a"), Observation(read, hits=(Hit(snippet[:300], "http://a", snippet),)))
    turns = (search, Turn(Completion(answer), Answer(answer)))
    return Trajectory(Question("a", "a"), load_prompt("deepmmsearch-r1"), (), turns, "answer")


async def _summarised(text: str) -> object:
    return await ExtractiveSummarizer().summarize("a capital", "capital", [text, "The capital is Orun."])


def _addressed(text: str) -> None:
    for read in (read_address, lambda t: join_address(read_address("http://public.example"), t)):
        for address in (text, f"http://{text}", f"http://a.example/{text}"):
            with contextlib.suppress(Refused):
                read(address)


def _judged(text: str) -> None:
    for name in JUDGES.names():
        for asked, accepted, said in ((text, "5", "5"), ("a", text, "5"), ("a", "5", text), ("a", "5", text[:600])):
            metadata = {"choices": [accepted, "b"], "answer_type": "numerical" if name == "infoseek" else name}
            JUDGES.find(name)(Question("a", asked, (), (accepted,), metadata), said)


def _parsed_json(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_json(text)


KEYS = (Redaction(["sk-secret-0123456789"]), Redaction(["\"/'\\% +<&a1" * 3]))

READERS: dict[str, Callable[[str], object]] = {
    "turn": lambda t: [parse_action(x, d) for d in DIALECTS.names() for x in (t, f"<reason>a</reason>{t}")],
    "reason": lambda t: [parse_reason(x) for x in (t, f"<reason>{t}")],
    "escaping": lambda t: [escape_chat_tokens(t), escape_observation(t), escape_tags(t)],
    "sentences": lambda t: [split_sentences(t), split_line(" ".join(t.split()))],
    "words": terms,
    "extractive summary": lambda t: asyncio.run(_summarised(t)),
    "manual page": lambda t: [from_manual_page(f".TH {t}\n.{t}\n{x}", "a") for x in (t, f".Op {t}", f".TS\n{t}")],
    "passages of an index": lambda t: passages(t, outline=Outline([Heading("a")])),
    "summary": lambda t: read_citations(t, 5),
    "passages to summarise": lambda t: fenced("text", t, t, [t]),
    "boxes": lambda t: parse_boxes(t, (100, 100)),
    "field of a hit": lambda t: [plain(t, LONG), web_address(t)],
    "document of a server": lambda t: _hit({"contents": t}, 1),
    "sources": lambda t: [
        f(e)
        for f in (find_sources, read_sources)
        for e in (episode("a", t, "a"), episode("a", "a", t), episode(t, t, t, t))
    ],
    "secrets": lambda t: [public_address(t), public_settings("http://" + t), secrets_in("http://" + t)],
    "keys": lambda t: [redaction.text(t) for redaction in KEYS],
    "Markdown": lambda t: from_markdown(t, "a"),
    "reStructuredText": lambda t: from_rst(t, "a"),
    "text": lambda t: from_text(t, "a"),
    "judges": _judged,
    "verdict": read_verdict,
    "placeholders": without_placeholders,
    "normal forms": lambda t: [normal_form("NFC", t), normal_form("NFKD", t)],
    "address": _addressed,
    "JSON": _parsed_json,
}


@pytest.mark.parametrize("name", READERS)
def test_what_reads_a_text_takes_time_in_proportion_to_it(name: str) -> None:
    def spent(part: str, length: int) -> float:
        text = part * (length // len(part) + 1)
        began = time.process_time()
        READERS[name](text[:length])
        return time.process_time() - began

    worst = sorted(HOSTILE, key=lambda part: spent(part, 600), reverse=True)[:3]
    for part in worst:
        for length in (LONG // 10, LONG):
            assert spent(part, length) < 4 * SECONDS * max(0.2, length / LONG), (part, length)


def test_normal_forms_are_those_of_unicode() -> None:
    for text in ("", "Ångström ﬁ ½", "\u1100\u1161\u11a8 가", "e\u0301\u0327" * 20, "क़\u0301", "\uff76\uff9e"):
        assert normal_form("NFKC", text) == unicodedata.normalize("NFKC", text)
        assert normal_form("NFD", text) == unicodedata.normalize("NFD", text)
    assert len(normal_form("NFC", "x" + "\u0327\u0301" * 1_000)) < 40
    elsewhere = [
        module
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "normalize" and ast.unparse(node.value) == "unicodedata"
    ]
    # of one character, and of a host's name, which is short
    assert set(elsewhere) <= {"deepmmsearch.normal_forms", "deepmmsearch.escaping", "deepmmsearch.tools.addresses"}
