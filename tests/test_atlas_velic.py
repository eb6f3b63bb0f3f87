"""The second language: nothing of the world is left in English, everything can be had back, and it can be searched."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from pathlib import Path

import pytest

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.atlas import drawing, velic
from deepmmsearch.atlas.names import FAMOUS, FIRST, SECOND
from deepmmsearch.atlas.oracle import OraclePolicy, read_picture
from deepmmsearch.atlas.pages import make_pages
from deepmmsearch.atlas.play import correct, with_gold_boxes
from deepmmsearch.atlas.questions import each_question, make_question, make_questions
from deepmmsearch.atlas.wordings import GIVE_UP
from deepmmsearch.atlas.world import USUAL, Tongue, Variant, World, make_world
from deepmmsearch.atlas.world_files import holds_atlas, write_atlas
from deepmmsearch.engine import Index
from deepmmsearch.errors import UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.tools.index_tools import local_tools
from deepmmsearch.types import TextSearch, Trajectory

# of the world of seed 3, before there were other languages and kinds
BEFORE = "1496271618c8ddb9fdf1717848c0b6e8c5dadcb8c54de60a3397ec9e5d913091"


def small(variant: Variant = USUAL, seed: int = 3) -> World:
    return make_world(seed, "eval", countries=12, famous=2, variant=variant)


def texts(world: World) -> list[str]:
    pages = make_pages(world)
    said = [text for p in pages for text in (p.title, *p.paragraphs, p.picture.alt if p.picture else "")]
    return [*said, *(text for q in each_question(world, 30) for text in (q.text, *q.answers))]


def test_the_usual_world_is_byte_for_byte_what_it_was(tmp_path: Path) -> None:
    write_atlas(small(), tmp_path / "world", make_questions(small(), 24))
    found = hashlib.sha256()
    for path in sorted((tmp_path / "world").rglob("*")):
        # how to index it, which is said anew with each setting that is added
        if path.is_file() and path.name != "README.md":
            content = path.read_bytes()
            picture = path.suffix in (".jpg", ".png")
            found.update(str(path.relative_to(tmp_path)).encode())
            found.update(hashlib.sha256(content).digest() if picture else content)
    assert found.hexdigest() == BEFORE


def test_every_word_has_its_own() -> None:
    assert len(set(velic.LEXICON.values())) == len(velic.LEXICON) == len(velic.WORDS)
    names = {name.lower() for country, facts in FAMOUS.items() for name in (country, *facts.values())}
    firsts = {syllable.lower() for syllable in FIRST}
    drawn = " ".join((*drawing.COLOURS, *drawing.CARRIERS, *drawing.BUILDINGS, *drawing.LAYOUTS, *drawing.POSITIONS))
    said = " ".join([*texts(small()), *texts(small(Variant(kinds="tools"))), drawn, *drawing.EMBLEMS, GIVE_UP])
    for word in set(re.findall(r"[a-z]+", said.lower())):
        known = word in velic.LEXICON or word in names or (word[:3] in firsts and word[3:] in SECOND)
        assert known, f"{word} has no Velic word and would pass for a name"
    written = {velic.write(name) for name in (*names, *(a + b for a in FIRST for b in SECOND))}
    assert written.isdisjoint(velic.LEXICON.values())


@pytest.mark.parametrize("kinds", ["papers", "tools"])
def test_every_sentence_can_be_had_back(kinds: str) -> None:
    for text in texts(small(Variant(kinds="tools" if kinds == "tools" else "papers"))):
        written = velic.write(text)
        assert not re.search("[A-Za-z]", written)
        back = velic.read(written)
        # answers of one word do not begin a sentence
        assert back == text or (back.lower() == text.lower() and " " not in text) or text.startswith("Republic")


def test_what_is_not_velic_stays_as_it_is() -> None:
    mixed = f"[1] match: {velic.write('Senzel flag')} https://a.example"
    assert velic.read(mixed) == "[1] match: Senzel flag https://a.example"
    assert velic.tongue_of(mixed) == "velic" and velic.tongue_of("Senzel 12") == "english"


def test_no_page_and_no_address_shows_a_name_in_the_other_script(tmp_path: Path) -> None:
    write_atlas(small(Variant("velic")), tmp_path / "world", make_questions(small(Variant("velic")), 6))
    names = re.compile("|".join(e.name for e in small().entities), re.IGNORECASE)
    for path in (tmp_path / "world" / "sites").rglob("*"):
        assert not names.search(path.name)
        if path.suffix == ".html":
            page = path.read_text(encoding="utf-8")
            assert not names.search(page) and '<html lang="qaa">' in page
    told = json.loads((tmp_path / "world" / "atlas.json").read_text())
    assert told["language"] == "velic"
    assert "--language velic\n" in (tmp_path / "world" / "README.md").read_text()


def test_a_world_in_one_language_is_not_taken_for_the_same_in_the_other(tmp_path: Path) -> None:
    write_atlas(small(Variant("velic", "english")), tmp_path / "velic")
    write_atlas(small(), tmp_path / "english")
    assert holds_atlas(tmp_path / "velic", small(Variant("velic", "english")), 0)
    for folder, other in (("velic", small()), ("velic", small(Variant("velic"))), ("english", small(Variant("velic")))):
        with pytest.raises(UserError, match="is another atlas"):
            holds_atlas(tmp_path / folder, other, 0)


def test_the_languages_differ_in_nothing_but_the_words() -> None:
    for plain, other in zip(
        each_question(small(), 20), each_question(small(Variant("english", "velic")), 20), strict=True
    ):
        assert other.text == velic.write(plain.text) and other.answers == tuple(map(velic.write, plain.answers))
        assert plain.image is not None and other.image is not None
        assert plain.image.tobytes() == other.image.tobytes()
        assert other.metadata["gold_tools"] == plain.metadata["gold_tools"]


def without_pictures(folder: Path, variant: Variant) -> Toolbox:
    """The searches of a world whose pictures are left out: reading them takes longest."""
    write_atlas(small(variant), folder / "world")
    for path in (folder / "world" / "sites").rglob("*.*g"):
        path.unlink()
    Index.build(folder / "world" / "sites", folder / "index")
    return local_tools(Index.open(folder / "index"))


@pytest.mark.parametrize(("pages", "asked"), [("velic", "velic"), ("velic", "english"), ("english", "velic")])
def test_asked_in_one_read_in_the_other(pages: Tongue, asked: Tongue, tmp_path: Path) -> None:
    variant = Variant(pages, asked)
    tools = with_gold_boxes(without_pictures(tmp_path, variant))
    rng = random.Random(1)
    kinds = ("text", "two_text", "look") * 6
    questions = [make_question(rng, small(variant), kind, str(n)) for n, kind in enumerate(kinds)]

    async def play() -> list[Trajectory]:
        oracle = AgentWorkflow(OraclePolicy(), load_prompt("atlas-tools"), tools)
        return [t async for t in run_all(questions, oracle, 4)]

    rows = asyncio.run(play())
    assert sum(map(correct, rows)) >= len(rows) - 1
    assert {velic.tongue_of(row.answer or "") for row in rows} == {asked}
    queries = [[t.action.query for t in row.turns if isinstance(t.action, TextSearch)] for row in rows]
    # who does not know yet what the pages are written in asks in the language of the question
    assert {velic.tongue_of(said[0]) for said in queries if said} == {asked}
    assert {velic.tongue_of(query) for said in queries for query in said} == {asked, pages}


def test_what_a_picture_shows_is_read_in_both_languages() -> None:
    found = "[1] match: Senzel flag The flag of Senzel is red.\n[2] similar: The flag of Balor"
    foreign = velic.write("Senzel flag The flag of Senzel is red.")
    assert read_picture(found) == read_picture(velic.read(f"[1] match: {foreign}")) == "Senzel"
    similar = velic.write("The flag of Balor")
    assert read_picture(velic.read(f"[1] similar: {similar}")) == "Balor"
