"""What a reader of a page does not see is taken out of its tree: scripts, controls, hidden elements."""

from __future__ import annotations

import re
from typing import Any

from deepmmsearch.reading.page_pictures import has_address

_NEVER = frozenset(
    word
    for line in (
        "script style template select option optgroup datalist textarea input button svg canvas map iframe object",
        "embed applet audio video frame rt rp rtc progress meter dialog noindex",
    )
    for word in line.split()
)
_HIDING = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?:\.0+)?\s*(?:;|!|$)|font-size\s*:\s*0(?:px|em|pt|%)?\s*(?:;|!|$))",
    re.I,
)
_HIDDEN_CLASSES = frozenset(
    "hidden d-none is-hidden visually-hidden visuallyhidden sr-only screen-reader-text screen-reader-only noprint "
    "mw-editsection headerlink anchorjs-link navigation-not-searchable".split()
)
_HEADING_MARKS = re.compile(r"[#§¶†🔗\s]*")
_TEX = ".//*[local-name()='annotation'][@encoding='application/x-tex']"


def remove(element: Any) -> None:
    """Out of its tree, without the text behind it."""
    parent = element.getparent()
    if parent is None:
        return
    if element.tail:
        before = element.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + element.tail
        else:
            parent.text = (parent.text or "") + element.tail
    parent.remove(element)


def keep_seen(tree: Any) -> None:
    """Takes everything else out, and gives headings that are told as such alone the elements of headings."""
    for formula in list(tree.iter("math")):
        _as_tex(formula)
    for cell in tree.iter("td", "th"):
        for name in ("colspan", "rowspan"):
            # readers of tables write out as many cells as a page asks for
            if len((cell.get(name) or "").strip()) > 2:
                cell.set(name, "1")
    for frames in list(tree.iter("noframes")):
        frames.text = re.sub(r"<[^<>]{0,500}>", " ", frames.text or "")
    for heading in tree.xpath(".//*[@role='heading'][not(self::h1 or self::h2 or self::h3 or self::h4)]"):
        level = (heading.get("aria-level") or "").strip()
        heading.tag = f"h{level if level in tuple('123456') else 2}"
    doomed = []
    for element in tree.iter():
        if not isinstance(element.tag, str) or element.tag in _NEVER or _footnote_mark(element):
            doomed.append(element)
    for element in doomed:
        if element.tag != "script" or element.get("type") != "application/ld+json":
            remove(element)
    hidden = [element for element in tree.iter() if _hidden(element)]
    if hidden:
        # most of a page is not hidden from its readers: scripts show it, or a dialog stands before it
        most = _length(tree) / 2
        for element in hidden:
            if _length(element) <= most:
                remove(element)
    _without_script(tree)


def _length(element: Any) -> int:
    return sum(len(text.strip()) for text in element.itertext(with_tail=False))


def _hidden(element: Any) -> bool:
    found = element.attrib
    if not found or element.tag in ("html", "body"):
        return False
    if "hidden" in found and found["hidden"] != "until-found":
        return True
    if "style" in found and _HIDING.search(found["style"]):
        return True
    if found.get("aria-hidden", "").strip().lower() == "true":
        return True
    return "class" in found and not _HIDDEN_CLASSES.isdisjoint(found["class"].split())


def _footnote_mark(element: Any) -> bool:
    """[1] above the line, or the sign beside a heading that links to it."""
    if element.tag not in ("a", "sup") or (element.tag == "a" and not (element.get("href") or "").startswith("#")):
        return False
    if element.tag == "sup":
        links = element.findall(".//a")
        return bool(links) and all("#" in (link.get("href") or "") for link in links)
    return len(element) == 0 and bool(element.text) and _HEADING_MARKS.fullmatch(element.text) is not None


def _as_tex(formula: Any) -> None:
    told = formula.xpath(_TEX)
    tex = (told[0].text if told else formula.get("alttext")) or "".join(formula.itertext())
    for child in list(formula):
        formula.remove(child)
    formula.text = tex
    parent = formula.getparent()
    if parent is not None and "display" in (parent.get("style") or ""):
        del parent.attrib["style"]  # shown as a picture beside it


def _without_script(tree: Any) -> None:
    """What stands for readers without scripts: nothing, where the page says something without it."""
    found = list(tree.iter("noscript"))
    if not found:
        return
    rest = sum(
        len(text.strip()) for text in tree.xpath("//body//text()[not(ancestor::noscript)][not(ancestor::script)]")
    )
    for element in found:
        text = "".join(element.itertext())
        if rest <= 200 and len(text) >= 20:
            continue
        before = element.getprevious()
        if before is None or before.tag != "img" or not has_address(before):
            for image in list(element.iter("img")):
                image.tail = None
                element.addprevious(image)
        remove(element)
