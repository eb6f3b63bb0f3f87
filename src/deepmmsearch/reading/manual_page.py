"""A manual page, written in the macros man or mdoc of troff -> its text and its headings. Nothing in it is run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.blocks import Blocks
from deepmmsearch.reading.document import Document

_COMMENT = re.compile(r"\\[\"#].*")
_CONTROL = re.compile(r"[.'][ \t]*([A-Za-z][A-Za-z0-9]{0,3})?(?:[ \t]+(.*))?$")
_ON_SCREEN = re.compile(r"^[.'][ \t]*(?:if|ie)[ \t]+n[ \t]+(?!\\\{)(?=\S)")
_LIKE_A_PAGE = re.compile(r"^[.'][ \t]*(?:TH|Dd|Dt|SH|Sh|so)\b", re.M)
_ESCAPE = re.compile(
    r"\\(?:f(?:\(..|\[[^\]\n]{0,20}\]|.)|s[-+]?\d{1,2}|[mMF]\[[^\]\n]{0,20}\]|[hvwlLDbo]'[^'\n]{0,80}'"
    r"|\((?P<two>..)|\[(?P<long>[^\]\n]{1,30})\]|\*(?:\((?P<string>..)|\[(?P<named>[^\]\n]{1,30})\]|(?P<one>.))|(?P<sign>.))"
)
_SIGNS = {
    **{"em": "—", "en": "–", "hy": "-", "bu": "•", "aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘", "cq": "’"},
    **{"co": "©", "rg": "®", "tm": "™", "R": "®", "Tm": "™", "mu": "×", "+-": "±", "->": "→", "<-": "←", "ha": "^"},
    **{"ti": "~", "rs": "\\", "ga": "`", "ua": "↑", "da": "↓", "<=": "≤", ">=": "≥", "!=": "≠", "at": "@", "sh": "#"},
    **{"Fo": "«", "Fc": "»", ":a": "ä", ":o": "ö", ":u": "ü", "ss": "ß", "'e": "é", "`e": "è", "de": "°", "sc": "§"},
    **{"-": "-", "e": "\\", " ": " ", "~": " ", "0": " ", "'": "'", "`": "`", ".": ".", "t": "\t", "\\": "\\"},
}
_MIXED = frozenset(("BR", "RB", "BI", "IB", "IR", "RI"))
_PARAGRAPH = frozenset(("PP", "P", "LP", "Pp", "sp", "HP", "RS", "RE", "Bl", "El", "Rs", "Re"))
_CODE_BEGINS, _CODE_ENDS = ("nf", "EX", "Bd"), ("fi", "EE", "Ed")
_SILENT = frozenset(
    "ad hy nh ne nr ds ft in ti na ll pl tr ta so fam cs ss wh ev Os Dd Sm ig if ie el while rm als TA PD DT UC AT UE "
    "ME hw nop bp rr ce lf mso cf Bk Ek Ef Bf".split()
)
_QUOTES = {"Dq": "“”", "Qq": '""', "Sq": "‘’", "Ql": "‘’", "Pq": "()", "Bq": "[]", "Op": "[]", "Aq": "<>", "Brq": "{}"}
_OPENED = {"Oo": "[", "Po": "(", "Bo": "[", "Do": "“", "So": "‘", "Qo": '"'}
_CLOSED = {"Oc": "]", "Pc": ")", "Bc": "]", "Dc": "”", "Sc": "’", "Qc": '"'}
_SPOKEN = frozenset(
    "Nm Fl Ar Pa Cm Dv Ev Va Em Sy Li Ic Fn Fa Ft In Vt Ad Er Tn Lb Ms No Ns An Xr Lk Mt St Ux Bx At Cd Nd Ap D1 Dl Fd "
    "Ox Nx Fx Rv Ex Cm %A %T %D %J %R %U".split()
) | frozenset((*_QUOTES, *_OPENED, *_CLOSED))
_NUMBER = re.compile(r"\(?[\da-z]{1,3}[.)]")
_AFTER = (".", ",", ";", ":", ")", "]", "?", "!")
_MOST_LINES = 100_000


def from_manual_page(text: str, name: str) -> Document:
    """Raises Unreadable for what is no such page."""
    if not _LIKE_A_PAGE.search(text[:20_000]):
        raise Unreadable("not a manual page")
    return _Reader(name).document(text.replace("\r\n", "\n").split("\n")[:_MOST_LINES])


class _Reader:
    def __init__(self, name: str) -> None:
        self._blocks = Blocks()
        self._name, self._title = "", name
        self._words: list[str] = []
        self._code: list[str] | None = None
        self._term = ""
        self._waits = ""  # for the line that comes next: "term", "SH" or "SS"

    def document(self, lines: Sequence[str]) -> Document:
        at = 0
        while at < len(lines):
            line = _ON_SCREEN.sub("", _COMMENT.sub("", lines[at]))
            at += 1
            control = _CONTROL.match(line)
            if control is None:
                # what ends so is a mark for the printed page, which another one stands for
                if line[:1] not in (".", "'") and not line.endswith(r"\c"):
                    self._text(line)
            elif control[1] in ("de", "de1", "am", "ig"):
                at = next((n + 1 for n in range(at, len(lines)) if lines[n].startswith("..")), len(lines))
            elif control[1] == "TS":
                end = next((n for n in range(at, len(lines)) if lines[n].startswith(".TE")), len(lines))
                self._table(lines[at:end])
                at = end + 1
            elif control[1]:
                self._macro(control[1], _arguments(control[2] or ""))
        self._end()
        return self._blocks.document(self._title)

    def _macro(self, name: str, given: list[str]) -> None:
        if name in ("TH", "Dt"):
            if given:
                self._title = plain(given[0]).lower() + (f"({plain(given[1])})" if len(given) > 1 else "")
        elif name in ("SH", "Sh", "SS", "Ss"):
            self._end()
            self._waits = name.upper()
            if given:
                self._text(" ".join(given))
        elif name in ("TP", "TQ"):
            self._end()
            self._waits = "term"
        elif name in ("IP", "It"):
            self._end()
            told = (_spoken(given, self._name) if name == "It" else plain(given[0])) if given else ""
            told = told.strip()
            self._term = "" if told in ("•", "*", "-", "o", "·") else told
        elif name in _PARAGRAPH:
            self._end()
        elif name == "br":
            self._words.append("\n")
        elif name in _CODE_BEGINS and (name != "Bd" or not {"-filled", "-ragged"} & set(given)):
            self._end()
            self._code = []
        elif name in _CODE_ENDS:
            self._end()
        elif name in _MIXED and given:
            self._text("".join(given))
        elif name in _SPOKEN:
            if name == "Nm" and given and not self._name:
                self._name = plain(given[0])
            self._text(_spoken([name, *given], self._name), done=True)
        elif name not in _SILENT and given:
            self._text(" ".join(given))

    def _text(self, line: str, done: bool = False) -> None:
        said = line if done else plain(line)
        if self._waits in ("SH", "SS") and said.strip():
            self._blocks.heading(said, 1 if self._waits == "SH" else 2)
            self._waits = ""
        elif self._waits == "term" and said.strip():
            self._term, self._waits = said.strip(), ""
        elif self._code is not None:
            self._code.append(said)
        elif said.strip():
            self._words.append(said.strip())
        else:
            self._end()

    def _end(self) -> None:
        """Of a paragraph, or of lines that stay as they are."""
        if self._code is not None:
            self._blocks.code("\n".join(self._code))
            self._code = None
        text = re.sub(r" ?\n ?", "\n", " ".join(self._words)).strip()
        if self._term:
            between = " " if _NUMBER.fullmatch(self._term) else ": "
            text = f"{self._term}{between if text else ''}{text}"
        self._blocks.paragraph(text)
        self._words, self._term = [], ""

    def _table(self, lines: Sequence[str]) -> None:
        """tbl's: options, formats that end with a full stop, then rows with their cells apart by tabs."""
        self._end()
        sign = next((m[1] for line in lines[:1] if (m := re.search(r"tab ?\((.)\)", line))), "\t")
        start = next((n + 1 for n, line in enumerate(lines) if line.rstrip().endswith(".")), 0)
        rows = [plain(line).split(sign) for line in lines[start:] if line.strip("_= \t") and line[:1] not in (".", "'")]
        cells = [[cell.strip().removeprefix("T{").removesuffix("T}") for cell in row] for row in rows]
        self._blocks.table(cells)


def plain(text: str) -> str:
    """Without escapes."""
    return _ESCAPE.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    named = next((found[kind] for kind in ("two", "long", "string", "named", "one", "sign") if found[kind]), "")
    if code := re.fullmatch(r"u([0-9A-F]{4,5})", named):
        return chr(int(code[1], 16))
    return _SIGNS.get(named, "")


def _arguments(text: str) -> list[str]:
    """Parted by blanks, where they do not stand within quotation marks."""
    found = re.findall(r'"((?:[^"]|"")*)"?|((?:\\ |[^\s])+)', text[:4_000])
    return [quoted.replace('""', '"') if quoted else bare for quoted, bare in found]


def _spoken(words: Sequence[str], name: str) -> str:
    """What macros of mdoc on one line say."""
    text, ends, close = "", "", True

    def add(said: str, closes: bool = False) -> None:
        nonlocal text, close
        text += said if close or said in _AFTER else f" {said}"
        close = closes

    waiting = iter(words)
    for word in waiting:
        if word in _QUOTES:
            add(_QUOTES[word][0], True)
            ends = _QUOTES[word][1] + ends
        elif word in _OPENED or word == "Fl":
            add(_OPENED.get(word, "-"), True)
        elif word in _CLOSED or word == "Nd":
            close = close or word != "Nd"
            add(_CLOSED.get(word, "–"))
        elif word == "Ns":
            close = True
        elif word == "Xr":
            page, section = next(waiting, ""), next(waiting, "")
            add(f"{page}({section})" if section else page)
        elif word == "Nm":
            following = next(waiting, "")
            add(name if not following or following in _SPOKEN or following in _AFTER else plain(following))
            if following in _AFTER and following:
                add(following)
        elif word not in _SPOKEN:
            said = plain(word)
            add(said, said in ("(", "["))
    if ends and text.endswith(_AFTER[:4]):
        return text[:-1] + ends + text[-1]
    return text + ends
