"""Which part of a page is its main text: everything else is blanked in its tree.

trafilatura decides what the article is, but its own text loses headings, lists, definitions and tables. So its text is
one sign among others by which each run of text of the page is judged; what is kept stays in its own place and shape.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any

from deepmmsearch.errors import MissingExtra
from deepmmsearch.reading.page_text import BLOCKS, HEADINGS
from deepmmsearch.reading.seen import remove
from deepmmsearch.reading.text_runs import GRAM, TextRun, grams_of, runs_of, words_of

# What each sign says for main text (above 0) or against it: a logistic regression on the runs of 1,100 public pages
# with known main text (news, documentation, shops, forums), each page with the same weight.
WEIGHTS = {
    **{
        "always": -1.68,
        "told": 1.09,
        "told near": 0.93,
        "told after": 0.53,
        "share told": -0.56,
        "untold share": -0.54,
    },
    **{"frame": 1.01, "untold frame": 0.45, "untold frame, long": -0.97, "untold frame, structure": 1.30},
    **{"main": 0.54, "no main": 0.85, "place": -0.46},
    **{"words": 0.41, "long": 1.41, "sentence": 0.27, "linked": -0.91, "around linked": -0.88, "linked item": 0.39},
    **{
        "h1": -0.50,
        "heading of told": 0.85,
        "table": 0.71,
        "pre": 0.36,
        "quote": 0.67,
        "caption": -2.17,
        "loose": -0.66,
    },
    **{
        "nav": -1.56,
        "footer": -2.33,
        "aside": -0.99,
        "form": -1.06,
        "furniture": -1.59,
        "comments": -0.50,
        "content": -0.52,
    },
}
# On a page that calls itself an article trafilatura is nearly always right; on others it finds half.
ARTICLE_TOLD, ARTICLE_UNTOLD, OTHER, STRUCTURED = -0.5, 2.5, 0.5, -0.5
SHORT = 1_000  # characters of which each sentence counts
LIST = -1.5  # the least mean value of a list on a page of much structure
ALIKE = 0.2  # of all that is marked up alike
MUCH_STRUCTURE = 0.25  # of a page's own text
_NEVER = ("nav", "footer")
_LISTS = ("ul", "ol", "dl", "table")
_STRUCTURE = ("li", "dl", "table", "pre", *HEADINGS)

_SENTENCE = re.compile("[.!?;:。！？…][\"'”’»)\\]]*$|[.!?] |。")
_ARTICLE = re.compile(r'"@type"\s*:\s*(?:\[\s*)?"(?:\w{0,40}Article|BlogPosting|Report|Review\w{0,40})"')
_ARTICLE_MARKS = (
    "//meta[@property='og:type' and @content='article'] | //meta[@property='article:published_time']"
    " | //*[@itemprop='articleBody']"
)


def _names(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])(?:{'|'.join(words.split())})(?![a-z])")


_FURNITURE = _names(
    "nav navi navigation navbar navbox menu breadcrumbs? crumbs pagination pager paging toolbar sidebar rail"
    " footer masthead topbar share sharing sharedaddy social socials addtoany addthis follow subscribe"
    " subscription newsletters? signup login related recommend(?:ed|ations?)? recirc read-?more most-?read"
    " trending popular latest teasers? promos? promoted sponsor(?:ed)? advert(?:isement|s)? ads? outbrain"
    " taboola banner cookies? consent gdpr comments? disqus respond reply byline bylines author tags? keywords"
    " categories meta metadata print skip widgets? rating prev previous next modal popup overlay paywall"
    " copyright credits?"
)
_COMMENTS = _names("comments? disqus respond replies")
_CONTENT = _names("article story content entry post body text main document page wiki description")
_WORDS_APART = re.compile(r"(?<=[a-z])(?=[A-Z])|[_\s]")
_ROLES = ("navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar", "toolbar", "dialog")


@dataclass
class Surroundings:
    """What an element and those around it say of the text in it. In characters: its text, that in links, that which
    trafilatura has too."""

    text: int = 0
    linked: int = 0
    told: int = 0
    tags: frozenset[str] = frozenset()
    furniture: float = 0.0
    content: float = 0.0
    comments: bool = False
    in_main: bool = False
    in_frame: bool = False


def keep_main(tree: Any, body: Any, title: str) -> None:
    """`title`: of the page, told apart from its text. Raises MissingExtra."""
    article = _is_article(tree)
    told = _told_by_trafilatura(tree)
    for script in list(tree.iter("script")):
        remove(script)
    page = _Page(body, list(runs_of(body)), told)
    for run, stays in zip(page.runs, page.judged(title if article else None), strict=True):
        if not stays:
            for element, behind in run.places:
                setattr(element, "tail" if behind else "text", " ")


def _is_article(tree: Any) -> bool:
    """Whether a page says so of itself."""
    said = tree.xpath("//script[@type='application/ld+json']/text()")
    return bool(tree.xpath(_ARTICLE_MARKS)) or any(_ARTICLE.search(text) for text in said)


def _told_by_trafilatura(tree: Any) -> str:
    try:
        import trafilatura
    except ImportError:
        raise MissingExtra("Reading HTML pages", "engine") from None
    return trafilatura.extract(tree, fast=True, include_comments=False, include_tables=True) or ""


class _Page:
    def __init__(self, body: Any, runs: list[TextRun], told: str) -> None:
        lines = [words_of(line) for line in told.splitlines()]
        short = {tuple(line) for line in lines if line}
        grams = set(grams_of([word for line in lines for word in line]))
        for run in runs:
            found = [gram in grams for gram in grams_of(run.words)]
            run.told = tuple(run.words) in short if len(run.words) < GRAM else sum(found) >= 0.5 * len(found)
        self.body, self.runs = body, runs
        self.around: dict[Any, Surroundings] = {element: Surroundings() for element in body.iter()}
        self._measure()
        self._describe()

    def _measure(self) -> None:
        for run in self.runs:
            around = self.around[run.block]
            around.text += run.size
            around.linked += run.linked
            around.told += run.size * run.told
        for element, around in reversed(self.around.items()):
            if element is not self.body:
                above = self.around[element.getparent()]
                above.text += around.text
                above.linked += around.linked
                above.told += around.told
        self.whole = self.around[self.body]

    def _describe(self) -> None:
        frame, mains = self._frame(), set(self.body.xpath(".//main | .//*[@role='main'] | .//article"))
        self.mains = mains
        for element, around in self.around.items():
            above = self.around[element.getparent()] if element is not self.body else Surroundings()
            given = f"{element.get('class') or ''} {element.get('id') or ''} {element.get('itemprop') or ''}"
            named = _WORDS_APART.sub(" ", given[:1_000]).lower()
            furniture = element.get("role") in _ROLES or bool(_FURNITURE.search(named))
            around.tags = above.tags | {element.tag} if element.tag in BLOCKS else above.tags
            around.furniture = max(float(furniture), 0.8 * above.furniture)
            around.content = max(float(bool(_CONTENT.search(named))), 0.8 * above.content)
            around.comments = above.comments or bool(_COMMENTS.search(named))
            around.in_main = above.in_main or element in mains
            around.in_frame = above.in_frame or element is frame

    def _frame(self) -> Any:
        """The innermost element with nearly all that trafilatura has."""
        frame = self.body
        while True:
            inner = [c for c in frame if self.around[c].told >= 0.9 * max(1, self.whole.told)]
            if not inner:
                return frame
            frame = inner[0]

    def judged(self, article: str | None) -> list[bool]:
        """Which runs are main text; `article`: the title of a page that calls itself an article."""
        values = [self._value(number) for number in range(len(self.runs))]
        if article is not None:
            stay = [self._of_article(number, value, article) for number, value in enumerate(values)]
            self._keep_alike(stay, values)
            self._keep_tables(stay)
        elif self._clean_main(values) is not None:
            stay = [self._in_main(run) for run in self.runs]
        else:
            structured = self._is_structured(values)
            stay = [value >= (STRUCTURED if structured else OTHER) for value in values]
            self._keep_lists(stay, values if structured else None)
            self._keep_headings(stay)
        stay = [s and self.around[r.block].tags.isdisjoint(_NEVER) for s, r in zip(stay, self.runs, strict=True)]
        return stay if any(stay) else [self.around[run.block].tags.isdisjoint(_NEVER) for run in self.runs]

    def _of_article(self, number: int, value: float, title: str) -> bool:
        run = self.runs[number]
        if run.block.tag == "h1" and run.text in title and self.whole.text > SHORT:
            return False  # told as the title
        return value >= (ARTICLE_TOLD if run.told else ARTICLE_UNTOLD) and (run.told or self._told_near(number) >= 0.5)

    def _keep_alike(self, stay: list[bool], values: list[float]) -> None:
        """Of an article in several pieces trafilatura may take one: the others are marked up as that one is."""
        forms = [self._form(run.block) for run in self.runs]
        told, whole = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        for run, form in zip(self.runs, forms, strict=True):
            told[form] += run.size * run.told
            whole[form] += run.size
        for number, form in enumerate(forms):
            alike = told[form] >= max(SHORT / 2, ALIKE * whole[form])
            stay[number] = stay[number] or (alike and values[number] >= OTHER)

    def _form(self, block: Any) -> tuple[str, ...]:
        """How an element and the two around it are marked up."""
        return tuple(f"{e.tag} {e.get('class') or ''}" for e in (block, *islice(block.iterancestors(), 2)))

    def _keep_tables(self, stay: list[bool]) -> None:
        """Those that stand among what trafilatura has of an article."""
        of: dict[Any, list[int]] = {}
        for number, run in enumerate(self.runs):
            table = next((e for e in (run.block, *run.block.iterancestors()) if e.tag == "table"), None)
            if table is not None and self.around[run.block].furniture < 0.5:
                of.setdefault(table, []).append(number)
        for table, numbers in of.items():
            beside, own = self.around[table.getparent()], self.around[table]
            if beside.told - own.told >= 0.5 * (beside.text - own.text) > 0 and own.linked < 0.3 * own.text:
                for number in numbers:
                    stay[number] = True

    def _is_structured(self, values: list[float]) -> bool:
        likely = [run for run, value in zip(self.runs, values, strict=True) if value >= LIST]
        own = sum(run.size for run in likely if not self.around[run.block].tags.isdisjoint(_STRUCTURE))
        return own >= MUCH_STRUCTURE * sum(run.size for run in likely)

    def _in_main(self, run: TextRun) -> bool:
        return self.around[run.block].in_main

    def _keep_lists(self, stay: list[bool], values: list[float] | None) -> None:
        """Whole lists and tables of which most stays; on a page of much structure (`values`) those that might."""
        holders: dict[Any, Any] = {}
        of: dict[Any, list[int]] = {}
        for element in self.around:
            above = holders.get(element.getparent()) if element is not self.body else None
            holders[element] = element if element.tag in _LISTS else above
        for number, run in enumerate(self.runs):
            holder = holders[run.block]
            if holder is not None and self.around[run.block].furniture < 0.5:
                of.setdefault(holder, []).append(number)
        for numbers in of.values():
            sizes = {n: self.runs[n].size for n in numbers}
            whole = sum(sizes.values())
            might = values is not None and sum(values[n] * sizes[n] for n in numbers) >= LIST * whole
            if might or 2 * sum(sizes[n] for n in numbers if stay[n]) >= whole:
                for number in numbers:
                    stay[number] = True

    def _keep_headings(self, stay: list[bool]) -> None:
        """Those of sections of which something stays."""
        since = [1 << 30] * 7  # runs to the next that stays in the section, by the section's level
        for number in range(len(stay) - 1, -1, -1):
            since = [runs + 1 for runs in since]
            around = self.around[self.runs[number].block]
            level = next((n for n, tag in enumerate(HEADINGS, 1) if tag in around.tags), 0)
            if not stay[number] and level and since[level] <= 8:
                stay[number] = around.furniture < 0.6 and around.tags.isdisjoint(("nav", "footer", "form", "aside"))
            if stay[number]:
                since = [0] * 7
            if level:
                since[level:] = [1 << 30] * (7 - level)

    def _clean_main(self, values: list[float]) -> Any:
        """The page's own <main> where nothing in it looks like furniture."""
        outer = [e for e in self.mains if not any(a in self.mains for a in e.iterancestors())]
        rest = sum(run.size for run in self.runs if self.around[run.block].tags.isdisjoint(("nav", "footer", "form")))
        if len(outer) != 1 or self.around[outer[0]].text < 0.4 * rest:
            return None
        (main,) = outer
        for element in main.iterdescendants():
            around = self.around[element]
            furniture = around.furniture == 1.0 or element.tag in ("nav", "aside", "footer", "form")
            if furniture and around.linked > 0.3 * around.text:
                return None
        inside = [(run.size, value) for run, value in zip(self.runs, values, strict=True) if self._in_main(run)]
        doubted, whole = sum(size for size, value in inside if value < OTHER), self.around[main].text
        if doubted > 0.1 * whole and (whole > SHORT or self.around[main].linked > 0.3 * whole):
            return None
        return main

    def _told_near(self, number: int) -> float:
        near = [run.told for run in (*self.runs[max(0, number - 3) : number], *self.runs[number + 1 : number + 4])]
        return sum(near) / max(1, len(near))

    def _value(self, number: int) -> float:
        run = self.runs[number]
        around, tag = self.around[run.block], run.block.tag
        parent = run.block.getparent() if run.block is not self.body else self.body
        beside = self.around[parent]
        tags, told = around.tags, run.told
        share = self.whole.told / max(1, self.whole.text)
        linked = run.linked / max(1, run.size)
        after = any(r.told for r in self.runs[number + 1 : number + 3])
        untold_frame = not told and around.in_frame
        long = len(run.words) >= 20
        signs = {
            "always": 1.0,
            "told": told,
            "told near": self._told_near(number),
            "told after": after,
            "share told": share,
            "untold share": (not told) * share,
            "frame": around.in_frame,
            "untold frame": untold_frame,
            "untold frame, long": untold_frame and long,
            "untold frame, structure": untold_frame and not tags.isdisjoint(("li", "dl", "table", "pre")),
            "main": around.in_main,
            "no main": not self.mains,
            "place": number / len(self.runs),
            "words": math.log1p(min(len(run.words), 80)),
            "long": long,
            "sentence": bool(_SENTENCE.search(run.text)),
            "linked": linked,
            "around linked": beside.linked / max(1, beside.text),
            "linked item": linked * ("li" in tags),
            "h1": tag == "h1",
            "heading of told": tag in HEADINGS and after,
            "table": "table" in tags,
            "pre": "pre" in tags,
            "quote": "blockquote" in tags,
            "caption": "figcaption" in tags,
            "loose": tag in ("div", "section", "body"),
            "nav": "nav" in tags,
            "footer": "footer" in tags,
            "aside": "aside" in tags,
            "form": "form" in tags,
            "furniture": around.furniture,
            "comments": around.comments,
            "content": around.content,
        }
        return sum(WEIGHTS[name] * value for name, value in signs.items())
