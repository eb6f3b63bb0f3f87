"""Addresses are shown as people write them, and kept as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deepmmsearch.escaping import readable_address
from deepmmsearch.serve import exports
from deepmmsearch.show.citations import Source

SHOWN = [
    ("a%20trap%20%C3%A9.html", "a trap é.html"),
    ("sub/100%25.md", "sub/100%.md"),
    ("dump.zim%23A/Caf%C3%A9", "dump.zim#A/Café"),
    ("manual.pdf#page=5", "manual.pdf#page=5"),
    ("file:///home/me/r%C3%A9sum%C3%A9%201.pdf", "/home/me/résumé 1.pdf"),
    ("https://x.example/wiki/Caf%C3%A9%20au%20lait?a=%26", "https://x.example/wiki/Café%20au%20lait?a=%26"),
    ("https://x.example/%E6%9D%B1%E4%BA%AC", "https://x.example/東京"),
    # not UTF-8, halves of letters, and what would turn the line around or break it
    ("caf%E9.md", "caf%E9.md"),
    ("https://x.example/%C3", "https://x.example/%C3"),
    ("https://x.example/%E2%80%AEgpj.exe", "https://x.example/%E2%80%AEgpj.exe"),
    ("a%0Ab.md", "a%0Ab.md"),
    ("", ""),
]


@pytest.mark.parametrize(("address", "shown"), SHOWN)
def test_an_address_is_readable(address: str, shown: str) -> None:
    assert readable_address(address) == shown


def test_the_page_shows_the_same() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = Path(exports.__file__).parent / "page" / "dom.js"
    lines = script.read_text().split("const decoded")[1].split("// only the web's")[0].replace("export ", "")
    program = f"const decoded{lines}\nconsole.log(JSON.stringify({json.dumps([a for a, _ in SHOWN])}.map(readable)))"
    ran = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [shown for _, shown in SHOWN]


def test_a_source_that_is_exported_is_readable() -> None:
    source = Source(1, 1, "Résumé", "my%20r%C3%A9sum%C3%A9.pdf", "He was born.", None)
    assert "my résumé.pdf" in exports._source(source) and "%" not in exports._source(source)
