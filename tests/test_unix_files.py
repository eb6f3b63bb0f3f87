"""What lies in folders of programs: manual pages, files named README or LICENSE, and both packed with gzip."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

pytest.importorskip("lxml")
pytest.importorskip("tantivy")

from deepmmsearch.engine import Index
from deepmmsearch.engine.ingest import SUFFIXES
from deepmmsearch.engine.walk import extension
from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.file_kinds import extract

MAN = r"""'\" t
.\" a comment
.TH FERRY 1 "2021-05-03" "Oru" "Harbour manual"
.de Macro
never told
..
.SH NAME
ferry \- cross the harbour
.SH SYNOPSIS
.B ferry
[\fB\-w\fR|\fB\-\-winter\fR]
.I port
.SH "THE OPTIONS"
.TP
.BR \-w ", " \-\-winter
sails in \(lqwinter\(rq,
see
.BR pier (5).
.IP \(bu 2
a crane
.ie n \{\
\h'-04' 1.\h'+01'\c
.\}
.IP "  1." 4
first
.if n On a screen.
.SS Exit status
.nf
  0   safe
  1   \\sunk
.fi
.TS
tab(;);
l l.
Port;Depth
Hale;7 m
.TE
"""
MDOC = r""".Dd May 3, 2021
.Dt PIER 5
.Os
.Sh NAME
.Nm pier
.Nd where ferries land
.Sh SYNOPSIS
.Nm
.Op Fl w | Fl -winter
.Oo Ar user Ns @ Oc Ns Ar port
.Sh DESCRIPTION
The
.Nm
utility, as
.Xr ferry 1
says, is
.Dq old .
.Bl -tag -width Ds
.It Fl w Ar days
Waits.
.El
"""


def test_a_manual_page_in_the_macros_of_man() -> None:
    document = extract("ferry.1", MAN.encode())
    assert document.title == "ferry(1)"
    assert document.headings == (("NAME", 1), ("SYNOPSIS", 1), ("THE OPTIONS", 1), ("Exit status", 2))
    assert [line for line in document.text.split("\n") if line] == [
        *("NAME", "ferry - cross the harbour", "SYNOPSIS", "ferry [-w|--winter] port", "THE OPTIONS"),
        *("-w, --winter: sails in “winter”, see pier(5).", "a crane", "1. first On a screen.", "Exit status"),
        *("  0   safe", r"  1   \sunk", "Port | Depth", "Hale | 7 m"),
    ]


def test_a_manual_page_in_the_macros_of_mdoc() -> None:
    document = extract("pier.5", MDOC.encode())
    assert document.title == "pier(5)"
    assert [line for line in document.text.split("\n") if line] == [
        *("NAME", "pier – where ferries land", "SYNOPSIS", "pier [-w | --winter] [user@]port", "DESCRIPTION"),
        *("The pier utility, as ferry(1) says, is “old”.", "-w days: Waits."),
    ]


def test_what_only_ends_like_a_manual_page_is_told_as_none() -> None:
    with pytest.raises(Unreadable, match="not a manual page"):
        extract("ferry.log.1", b"The ferry sailed at noon.\n.TOC was not on board.")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        *[(name, True) for name in ("README", "LICENSE-MIT", "COPYING.LESSER", "changelog.Debian.amd64.gz", "NEWS.gz")],
        *[(name, True) for name in ("copyright", "a.md.gz", "ferry.1.gz", "page.HTML.gz", "Contributing")],
        *[
            (name, False)
            for name in ("install.sh", "history.py", "news.php", "todo.c", "README.exe", "Makefile", "a.gz")
        ],
        *[(name, False) for name in ("install.sh", "history.py", "news.php", "todo.c", "README.exe", "Makefile")],
        *[(name, False) for name in ("a.gz", "report.docx.gz", "readmefirst", "license-check.py")],
    ],
)
def test_files_are_told_by_their_names(name: str, read: bool) -> None:
    assert bool(extension(name, SUFFIXES)) == read


def test_packed_files_are_read_within_bounds(tmp_path: Path) -> None:
    (tmp_path / "doc").mkdir()
    texts = {
        "README": b"The ferry of Oru sails at noon.",
        "NEWS.gz": gzip.compress(b"Version 2\n=========\n\nIt has a second crane."),
        "ferry.1.gz": gzip.compress(MAN.encode()),
        "page.html.gz": gzip.compress(b"<title>Tides</title><p>The tides of Oru are high in May.</p>"),
        "bomb.txt.gz": gzip.compress(bytes(9_000_000)),
        "cut.md.gz": gzip.compress(b"A long text." * 9_000)[:60],
    }
    for name, content in texts.items():
        (tmp_path / "doc" / name).write_bytes(content)
    index = Index.build(tmp_path / "doc", tmp_path / "index")
    assert index.skipped() == [("bomb.txt.gz", "unpacks to more than 8 MB"), ("cut.md.gz", "a damaged gzip file")]
    found = {word: index.search_text(word)[0] for word in ("noon", "crane", "winter", "tides")}
    assert [hit.url for hit in found.values()] == ["README", "NEWS.gz", "ferry.1.gz", "page.html.gz"]
    assert [hit.title for hit in found.values()] == ["README", "Version 2", "ferry(1)", "Tides"]
