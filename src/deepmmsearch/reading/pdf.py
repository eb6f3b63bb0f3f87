"""A PDF -> its text in reading order, where each page begins, what its form was filled with, and its pictures with
their captions. By PDFium: it reads what is damaged as a browser does, and what is encrypted without a password."""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.composition import (
    CAPTION,
    MAX_PICTURE_BYTES,
    MAX_PICTURES,
    Composition,
    given_title,
    short_line,
)
from deepmmsearch.reading.document import Document, Origin, Showing, clean
from deepmmsearch.reading.layout import SENTENCE_END, Paragraph, Piece, ordered, paragraphs, rows
from deepmmsearch.reading.pdf_outline import PdfHeadings, bookmarks, pdf_headings

SCAN = "a scan without text"
MAX_PAGES = 2_000
_SMALLEST, _LARGEST = 64, 16_000_000
"""A picture's shorter side, and its pixels."""
_GAP = 0.95
"""As a share of a line's height: a wider gap is between columns, not words."""
_MARGIN = 0.12
_HYPHENS = (0x2, 0xFFFE)
_BREAKS = (10, 13)
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_DATE = re.compile(r"D:(\d{4})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_PAGE_NUMBER = re.compile(
    r"\W*+(page|seite|s\.|p\.)?\s*+(\d{1,4}|[ivxlc]{1,7})(\s*+(/|of|von|de)\s*+\d{1,4})?\W*+", re.I
)


class _Page(NamedTuple):
    number: int
    height: float
    pieces: list[Piece]
    blocks: list[list[Piece]]
    form: list[str]
    covered: bool
    """A picture fills it."""


def from_pdf(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    try:
        import pypdfium2 as pdfium
    except ImportError:
        raise MissingExtra("Reading PDF files", "web" if origin.address else "engine") from None
    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        raise Unreadable("encrypted PDF" if "password" in str(error) else "damaged PDF") from None
    try:
        return _read(document, origin)
    except pdfium.PdfiumError as error:
        raise Unreadable("damaged PDF") from error
    finally:
        document.close()


def _read(document: Any, origin: Origin) -> Document:
    filled = document.get_formtype() != 0
    if filled:
        document.init_forms()
    pages: list[_Page] = []
    pictures: list[Showing] = []
    length = 0
    for number in range(min(len(document), MAX_PAGES)):
        with _opened(document, number) as page:
            if page is None:
                continue
            read = _page(page, number + 1, filled)
            length += sum(len(row.text) for block in read.blocks for row in block)
            if not origin.address:
                taken = sum(len(shown.content) for shown in pictures)
                pictures += _pictures(page, read, len(pictures), MAX_PICTURE_BYTES - taken)
            pages.append(read)
        if length > origin.longest:
            break
    told = document.get_metadata_dict(skip_empty=True)
    return _composed(_without_margins(pages), pictures, bookmarks(document), told, origin)


@contextlib.contextmanager
def _opened(document: Any, number: int) -> Iterator[Any]:
    """None for a page that cannot be read: the others can."""
    import pypdfium2 as pdfium

    try:
        page = document[number]
    except pdfium.PdfiumError:
        yield None
        return
    try:
        yield page
    finally:
        page.close()


def _page(page: Any, number: int, filled: bool) -> _Page:
    width, height = page.get_size()
    groups = _turned(page)
    # what runs another way than most of the page, such as a margin's note, comes last
    blocks = [block for group in sorted(groups, key=_length, reverse=True) for block in ordered(group)]
    area = sum(max(0.0, right - left) * max(0.0, top - bottom) for left, bottom, right, top, _ in _placed(page))
    pieces = [piece for group in groups for piece in group]
    return _Page(number, height, pieces, blocks, _notes(page, filled), area > 0.5 * width * height)


def _length(pieces: list[Piece]) -> int:
    return sum(len(piece.text) for piece in pieces)


# Text


def _turned(page: Any) -> list[list[Piece]]:
    """Pieces by the direction in which they run, each as if it were to the right."""
    text = page.get_textpage()
    try:
        return list(_pieces(text).values())
    finally:
        text.close()


def _pieces(text: Any) -> dict[int, list[Piece]]:
    import pypdfium2.raw as raw

    found: dict[int, list[Piece]] = {}
    words: list[Piece] = []
    start, letters, turn = -1, list[str](), 0
    box = raw.FS_RECTF()
    count = text.count_chars()

    def end_word(stop: int, split: bool = False) -> None:
        nonlocal start, letters
        if letters:
            words.append(_word(text, box, (start, stop - 1), turn, "".join(letters), split))
        start, letters = -1, []

    def end_line() -> None:
        nonlocal words
        if words:
            found.setdefault(turn, []).extend(_joined(words))
        words = []

    for index in range(count):
        code = raw.FPDFText_GetUnicode(text, index)
        if code in _BREAKS:
            end_word(index)
            end_line()
        elif code in _HYPHENS:
            end_word(index, True)
            end_line()
        elif code == 0:  # a letter that its font does not name
            continue
        elif code <= 32 or code in (0xA0, 0x3000):
            end_word(index)
        else:
            if start < 0:
                start = index
                if not words:
                    turn = round(raw.FPDFText_GetCharAngle(text, index) / (math.pi / 2)) % 4
            letters.append(chr(code) if code < 0xD800 or 0xE000 <= code < 0x110000 else "\ufffd")
    end_word(count)
    end_line()
    return found


def _word(text: Any, box: Any, span: tuple[int, int], turn: int, letters: str, split: bool) -> Piece:
    import pypdfium2.raw as raw

    corners = []
    for index in span:
        raw.FPDFText_GetLooseCharBox(text, index, ctypes.byref(box))
        corners.append((box.left, box.bottom, box.right, box.top))
    left, right = (min(c[0] for c in corners), max(c[2] for c in corners))
    bottom, top = (min(c[1] for c in corners), max(c[3] for c in corners))
    match turn:
        case 1:
            left, bottom, right, top = bottom, -right, top, -left
        case 2:
            left, bottom, right, top = -right, -top, -left, -bottom
        case 3:
            left, bottom, right, top = -top, left, -bottom, right
    return Piece(left, bottom, right, top, letters.translate(_LIGATURES), split)


def _joined(words: list[Piece]) -> list[Piece]:
    """The words of a line, cut at gaps as wide as those between columns."""
    found = [words[0]]
    for word in words[1:]:
        last = found[-1]
        gap = max(word.left - last.right, last.left - word.right)
        if gap > _GAP * last.height or not last.bottom < (word.bottom + word.top) / 2 < last.top:
            found.append(word)
            continue
        found[-1] = Piece(
            min(last.left, word.left),
            min(last.bottom, word.bottom),
            max(last.right, word.right),
            max(last.top, word.top),
            f"{last.text} {word.text}",
            word.split,
        )
    return found


def _without_margins(pages: list[_Page]) -> list[_Page]:
    """Without running heads, running feet and page numbers: what stands at the edges of many pages, but for digits."""
    edges = [_edges(page) for page in pages]
    often = Counter(line for lines in edges for line in {_pattern(row) for row in lines})
    enough = max(3, len(pages) // 4)
    running = {line for line, times in often.items() if times >= enough}
    kept = []
    for page, lines in zip(pages, edges, strict=True):
        dropped = {
            row for row in lines if _pattern(row) in running or (len(pages) > 1 and _PAGE_NUMBER.fullmatch(row.text))
        }
        blocks = [[row for row in block if row not in dropped] for block in page.blocks]
        kept.append(page._replace(blocks=[block for block in blocks if block]))
    return kept


def _edges(page: _Page) -> list[Piece]:
    """What stands at the top and at the bottom, apart from the text."""
    flat = [row for block in page.blocks for row in block]
    lines = rows(flat)
    steps = [above.bottom - below.bottom for above, below in pairwise(lines)]
    usual = 1.4 * median(steps) if steps else 0.0
    heads, feet = _apart(lines, steps, usual), _apart(lines[::-1], steps[::-1], usual)
    apart = [row for row in heads if row.bottom > (1 - _MARGIN) * page.height]
    apart += [row for row in feet if row.top < _MARGIN * page.height]
    # a row's parts stand in several blocks, such as a name on the left and a number on the right
    return [p for p in flat if any(e.bottom <= (p.bottom + p.top) / 2 <= e.top for e in apart)]


def _apart(lines: list[Piece], steps: list[float], usual: float) -> list[Piece]:
    """The first one to three lines, where a gap wider than that between lines follows them."""
    end = next((number for number, step in enumerate(steps[:3], 1) if step > usual), 0)
    return lines[:end] if end else [line for line in lines[:1] if _PAGE_NUMBER.fullmatch(line.text)]


def _pattern(row: Piece) -> str:
    return re.sub(r"\d+", "#", row.text).casefold()


# Forms and notes


def _notes(page: Any, filled: bool) -> list[str]:
    """What was filled in and noted: `name: value`."""
    import pypdfium2.raw as raw

    found = []
    for index in range(min(raw.FPDFPage_GetAnnotCount(page), 2_000)):
        note = raw.FPDFPage_GetAnnot(page, index)
        if not note:
            continue
        kind = raw.FPDFAnnot_GetSubtype(note)
        if kind == raw.FPDF_ANNOT_WIDGET and filled and page.formenv is not None:
            found.append(_field(page.formenv, note))
        elif kind in (raw.FPDF_ANNOT_FREETEXT, raw.FPDF_ANNOT_TEXT):
            found.append(_wide(raw.FPDFAnnot_GetStringValue, note, b"Contents"))
        raw.FPDFPage_CloseAnnot(note)
    return [line for line in dict.fromkeys(found) if line]


def _field(form: Any, note: Any) -> str:
    import pypdfium2.raw as raw

    type_ = raw.FPDFAnnot_GetFormFieldType(form, note)
    if type_ in (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON):
        if not raw.FPDFAnnot_IsChecked(form, note):
            return ""
        value = _wide(raw.FPDFAnnot_GetFormFieldExportValue, form, note) or "yes"
    elif type_ in (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX):
        value = _wide(raw.FPDFAnnot_GetFormFieldValue, form, note)
    else:
        return ""
    name = _wide(raw.FPDFAnnot_GetFormFieldAlternateName, form, note)
    name = name or _wide(raw.FPDFAnnot_GetFormFieldName, form, note)
    return f"{name}: {value}" if value else ""


def _wide(function: Any, *arguments: Any) -> str:
    """A text of PDFium's, which says first how long it is."""
    length = function(*arguments, None, 0)
    if not 2 < length < 2_000_000:
        return ""
    buffer = ctypes.create_string_buffer(length)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), length)
    return clean(buffer.raw[:length].decode("utf-16-le", "replace").replace("\0", ""))


# Pictures


def _placed(page: Any) -> list[tuple[float, float, float, float, Any]]:
    import pypdfium2 as pdfium
    import pypdfium2.raw as raw

    found = []
    try:
        for number, one in enumerate(page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE,), max_depth=4)):
            if number == MAX_PICTURES:
                break
            found.append((*one.get_bounds(), one))
    except pdfium.PdfiumError:
        pass
    return found


def _pictures(page: Any, read: _Page, known: int, room: int) -> list[Showing]:
    """Of a page with text: a scan is not a picture of something."""
    if read.covered and not any(read.blocks):
        return []
    found: list[Showing] = []
    for left, bottom, right, top, one in _placed(page):
        if known + len(found) == MAX_PICTURES:
            break
        content = _encoded(one)
        if not content or len(content) > room:
            continue
        room -= len(content)
        title, near = _said(read.pieces, left, bottom, right, top)
        place = f"page={read.number}"
        found.append(Showing(f"{place}&picture={len(found) + 1}", title, near, 3.0 * bool(title), content, place))
    return found


def _said(pieces: list[Piece], left: float, bottom: float, right: float, top: float) -> tuple[str, str]:
    """The caption of a picture, and else the text nearest to it."""
    lines = paragraphs(rows([piece for piece in pieces if piece.right > left and piece.left < right]))
    beside = [p for p in lines if p.top <= bottom + 6 or p.bottom >= top - 6]
    by_distance = sorted(beside, key=lambda p: bottom - p.top if p.top <= bottom + 6 else 1.5 * (p.bottom - top))
    caption = next((clean(p.text) for p in by_distance[:3] if CAPTION.match(p.text)), "")
    near = next((clean(p.text) for p in by_distance if len(p.text) > 20 and clean(p.text) != caption), "")
    return caption[:300].replace("\u00ad", ""), near[:400].replace("\u00ad", "")


def _encoded(one: Any) -> bytes:
    import pypdfium2 as pdfium

    try:
        width, height = one.get_px_size()
        if min(width, height) < _SMALLEST or width * height > _LARGEST:
            return b""
        if one.get_filters() == ["DCTDecode"]:
            return bytes(one.get_data())
        buffer = io.BytesIO()
        one.get_bitmap(render=False).to_pil().convert("RGB").save(buffer, "PNG", compress_level=1)
    except (pdfium.PdfiumError, OSError, ValueError, RuntimeError):
        return b""
    return buffer.getvalue()


# The document


def _composed(
    pages: list[_Page],
    pictures: list[Showing],
    marked: dict[tuple[int, str], int],
    told: dict[str, str],
    origin: Origin,
) -> Document:
    written = [(page, [p for block in page.blocks for p in paragraphs(block)]) for page in pages]
    for (_, above), (_, below) in pairwise(written):
        _run_on(above, below)
    every = [paragraph for _, own in written for paragraph in own]
    letters = sum(len(paragraph.text) for paragraph in every)
    if letters < 20 * len(pages) and sum(page.covered for page in pages) * 2 > len(pages):
        raise Unreadable(SCAN if origin.address else f"{SCAN}; index build --ocr reads it")
    headings = pdf_headings(marked, _usual_height(every), (paragraph.height for paragraph in every))
    known = set(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", " ".join(p.text for p in every)))
    text = Composition(origin.longest)
    for page, own in written:
        text.mark(f"page={page.number}")
        for paragraph in own:
            line = clean(_whole_words(paragraph.text, known))
            if level := headings.level(page.number, line, paragraph.height):
                text.head(line, level)
            else:
                text.add(line)
        for line in page.form:
            text.add(line)
    date = _DATE.match(str(told.get("CreationDate", "")))
    title = _title(str(told.get("Title", "")), written[0][1] if written else [], headings, origin.name)
    document = text.document(title, "-".join(date.groups()) if date else "")
    return replace(document, pictures=tuple(pictures))


def _run_on(above: list[Paragraph], below: list[Paragraph]) -> None:
    """A sentence that goes on over the page belongs to the page on which it begins."""
    if not above or not below or above[-1].text.endswith(SENTENCE_END) or not below[0].text[:1].islower():
        return
    if 0.9 < below[0].height / above[-1].height < 1.1:
        text = above[-1].text.removesuffix("\u00ad")
        sign = "\u00ad" if text.endswith("-") or text != above[-1].text else " "
        above[-1] = above[-1]._replace(text=text.removesuffix("-") + sign + below.pop(0).text)


def _usual_height(lines: list[Paragraph]) -> float:
    """Of most letters."""
    heights: Counter[float] = Counter()
    for line in lines:
        heights[round(line.height, 1)] += len(line.text)
    return heights.most_common(1)[0][0] if heights else 1.0


def _whole_words(text: str, known: set[str]) -> str:
    """Words that were cut at a line's end, joined; with their hyphen where the document writes them so elsewhere."""
    whole, *rest = text.split("\u00ad")
    for part in rest:
        first, second = whole.rpartition(" ")[2], part.partition(" ")[0].rstrip(".,;:!?)]”\"'")
        hyphened = first + second not in known and (f"{first}-{second}" in known or not second[:1].islower())
        whole += f"-{part}" if hyphened and first else part
    return whole


def _title(named: str, first: list[Paragraph], headings: PdfHeadings, name: str) -> str:
    if told := given_title(named):
        return told
    lines = [p for p in first if len(re.findall(r"[^\W\d_]", p.text)) >= 4 and len(p.text) <= 250]
    if not lines:
        return name
    largest = max(lines, key=lambda p: round(p.height, 1))
    if not headings.is_large(largest.height):
        # all alike: a short first line stands for a title
        largest = lines[0]
        if not short_line(largest.text):
            return name
    return clean(largest.text.replace("\u00ad", ""))
