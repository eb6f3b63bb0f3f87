"""Documents for tests, written by hand: archives of XML, and compound files."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
R = f'xmlns:r="{_OFFICE}"'
WP = 'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
CORE = (
    '<cp:coreProperties xmlns:cp="x" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="d">'
    "<dc:title>{}</dc:title><dc:language>en-GB</dc:language><dcterms:created>2021-03-04T10:00:00Z</dcterms:created>"
    "</cp:coreProperties>"
)


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def relations(**targets: tuple[str, str]) -> str:
    """id=(kind, target)"""
    listed = "".join(
        f'<Relationship Id="{name}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for name, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}">{listed}</Relationships>'


STYLES = (
    f'<w:styles {W}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    f'<w:style w:styleId="Titel"><w:name w:val="Title"/></w:style>'
    f'<w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
    f'<w:style w:styleId="Abschnitt"><w:name w:val="Abschnitt"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
    f'<w:style w:styleId="Text"><w:name w:val="Body"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style></w:styles>'
)


def docx(body: str, title: str = "", picture: bytes = b"", notes: str = "") -> bytes:
    parts = {
        "_rels/.rels": relations(a=("officeDocument", "word/document.xml"), b=("core-properties", "docProps/core.xml")),
        "docProps/core.xml": CORE.format(title),
        "word/document.xml": f"<w:document {W} {A} {R} {WP}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": STYLES,
        "word/media/image1.png": picture,
        "word/footnotes.xml": f"<w:footnotes {W}>{notes}</w:footnotes>",
        "word/_rels/document.xml.rels": relations(
            p=("image", "media/image1.png"), f=("footnotes", "footnotes.xml"), s=("styles", "styles.xml")
        ),
    }
    return zipped(parts)


def paragraph(text: str, style: str = "") -> str:
    told = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{told}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pptx(slides: list[str], notes: Mapping[int, str] | None = None, picture: bytes = b"", title: str = "") -> bytes:
    """`notes` by the number of their slide."""
    listed = "".join(f'<p:sldId id="{256 + n}" r:id="s{n}"/>' for n in range(1, len(slides) + 1))
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations(
            a=("officeDocument", "ppt/presentation.xml"), b=("core-properties", "docProps/core.xml")
        ),
        "docProps/core.xml": CORE.format(title),
        "ppt/presentation.xml": f"<p:presentation {P} {R}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(
            **{f"s{n}": ("slide", f"slides/slide{n}.xml") for n in range(1, len(slides) + 1)}
        ),
        "ppt/media/image1.png": picture,
    }
    for number, shapes in enumerate(slides, 1):
        parts[f"ppt/slides/slide{number}.xml"] = _slide("sld", shapes)
        known = {"p": ("image", "../media/image1.png")}
        if notes and number in notes:
            known["n"] = ("notesSlide", f"../notesSlides/notes{number}.xml")
            parts[f"ppt/notesSlides/notes{number}.xml"] = _slide("notes", shape(notes[number], "body"))
        parts[f"ppt/slides/_rels/slide{number}.xml.rels"] = relations(**known)
    return zipped(parts)


def _slide(name: str, shapes: str) -> str:
    return f"<p:{name} {P} {A} {R}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:{name}>"


def shape(text: str, role: str = "") -> str:
    told = f'<p:nvSpPr><p:nvPr><p:ph type="{role}"/></p:nvPr></p:nvSpPr>' if role else ""
    lines = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in text.split("\n"))
    return f"<p:sp>{told}<p:txBody>{lines}</p:txBody></p:sp>"


def xlsx(sheets: Mapping[str, list[list[str | float]]]) -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="s{n}"/>' for n, name in enumerate(sheets, 1))
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/></Types>',
        "_rels/.rels": relations(a=("officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook xmlns="{main}" {R}><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": relations(
            **{f"s{n}": ("worksheet", f"worksheets/sheet{n}.xml") for n in range(1, len(sheets) + 1)}
        ),
    }
    for number, rows in enumerate(sheets.values(), 1):
        written = "".join(
            f'<row r="{r}">{"".join(_cell(f"{chr(65 + c)}{r}", value) for c, value in enumerate(row))}</row>'
            for r, row in enumerate(rows, 1)
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{written}</sheetData></worksheet>'
        )
    return zipped(parts)


def _cell(place: str, value: str | float) -> str:
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>' if value else ""
    return f'<c r="{place}"><v>{value}</v></c>'


def odf(body: str, title: str = "", pictures: Mapping[str, bytes] | None = None) -> bytes:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "text", "table", "draw", "presentation", "meta")
    )
    spaces += (
        ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:svg="urn:svg" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    )
    content = f"<office:document-content {spaces}><office:body>{body}</office:body></office:document-content>"
    meta = f"<dc:title>{title}</dc:title><meta:creation-date>2021-03-04T10:00:00</meta:creation-date>"
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": content,
            "meta.xml": f"<office:document-meta {spaces}><office:meta>{meta}</office:meta></office:document-meta>",
            **(pictures or {}),
        }
    )


def epub(
    chapters: Mapping[str, str], title: str = "", pictures: Mapping[str, bytes] | None = None, contents: str = ""
) -> bytes:
    """Chapters by their names below `text/`, in order; `contents`: a page with its table of contents."""
    items = "".join(
        f'<item id="c{n}" href="text/{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title><dc:language>de</dc:language><dc:date>1999-05-01</dc:date></metadata>"
        f'<manifest>{items}<item id="nav" href="nav.xhtml" properties="nav"/></manifest><spine>'
        f"{spine}</spine></package>"
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/book.opf": package,
            "OEBPS/nav.xhtml": contents,
            **{f"OEBPS/text/{name}": page for name, page in chapters.items()},
            **{f"OEBPS/{name}": content for name, content in (pictures or {}).items()},
        }
    )


def msg(texts: Mapping[str, str], properties: Mapping[int, int], attached: Mapping[str, bytes] | None = None) -> bytes:
    """`texts` by tag ("0037": subject); `properties` of eight bytes by number; one attachment by its streams' names."""
    streams = {f"__substg1.0_{tag}001F": text.encode("utf-16-le") for tag, text in texts.items()}
    entries = b"".join(struct.pack("<IIQ", tag << 16 | 0x40, 6, value) for tag, value in properties.items())
    streams["__properties_version1.0"] = bytes(32) + entries
    return _compound(streams, {"__attach_version1.0_#00000000": attached} if attached else {})


def _compound(streams: Mapping[str, bytes], storages: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """A compound file ([MS-CFB]) whose streams are filled up to 4,096 bytes, so that none of them is a short one."""
    end, none = 0xFFFFFFFE, 0xFFFFFFFF
    fat: list[int] = [0xFFFFFFFD]
    body = [b""]  # the table itself comes first

    def store(content: bytes) -> tuple[int, int]:
        content = content.ljust(4096, b"\0")
        first = len(fat)
        pieces = [content[at : at + 512].ljust(512, b"\0") for at in range(0, len(content), 512)]
        body.extend(pieces)
        fat.extend([*range(first + 1, first + len(pieces)), end])
        return first, len(content)

    entries: list[list] = [["Root Entry", 5, none, none, end, 0]]  # name, kind, next, child, start, size

    def chain(parent: int, members: list[int]) -> None:
        for number, member in enumerate(members):
            entries[member][2] = members[number + 1] if number + 1 < len(members) else none
        entries[parent][3] = members[0] if members else none

    def files(listed: Mapping[str, bytes]) -> list[int]:
        for name, content in listed.items():
            entries.append([name, 2, none, none, *store(content)])
        return list(range(len(entries) - len(listed), len(entries)))

    top = files(streams)
    for name, inner in storages.items():
        entries.append([name, 1, none, none, 0, 0])
        top.append(storage := len(entries) - 1)
        chain(storage, files(inner))
    chain(0, top)
    directory = b"".join(
        name.encode("utf-16-le").ljust(64, b"\0")
        + struct.pack("<HBBIII", 2 * len(name) + 2, kind, 1, none, following, child)
        + bytes(36)
        + struct.pack("<IQ", start, size)
        for name, kind, following, child, start, size in entries
    )
    place, _ = store(directory)
    assert len(fat) <= 128
    body[0] = b"".join(struct.pack("<I", n) for n in fat).ljust(512, b"\xff")
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    head += struct.pack("<IIIIIIIII", 0, 1, place, 0, 4096, end, 0, end, 0) + struct.pack("<I", 0)
    return head.ljust(512, b"\xff") + b"".join(body)
