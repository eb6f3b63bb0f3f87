"""Pages as a browser reads them."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    '"\'><a href="javascript:alert(1)" onclick=\'x\' style="color:red">',
    "</bdi></pre></details></title></style><style>*{color:red}</style>",
    "<!-- --></svg><svg onload=alert(1)>&lt;script&gt;",
    "{{ 7 * 7 }}{% raw %}<iframe src=//example.com>",
    "\u202e\u0000 ]]> |",
)
"""Texts that try to become markup, in HTML or in a template."""


class Page(HTMLParser):
    """`elements` with their attributes, in order, and the `text` outside of tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for name, value in attributes if name in names]
