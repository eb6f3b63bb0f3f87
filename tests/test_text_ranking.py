"""Which passage comes first: one index of small pages for each kind of query."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine.query import understood
from deepmmsearch.errors import UserError


def _index(folder: Path, pages: dict[str, str], settings: IndexSettings | None = None) -> Index:
    source = folder / "pages"
    for name, text in pages.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Index.build(source, folder / "index", settings)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    pages = {
        "zh.md": "# 山麓图书馆\n\n山麓图书馆建于1921年，由建筑师陈立新设计。馆内藏书三十万册。",
        "ja.md": "# 黒崎灯台\n\n黒崎灯台は1908年に点灯した。設計者は森本花子である。",
        "th.md": "# หอสมุดริมน้ำ\n\nหอสมุดริมน้ำสร้างขึ้นในปี พ.ศ. 2466 ออกแบบโดยสถาปนิกวิชัย",
        "ko.md": "# 바닷가도서관\n\n바닷가도서관은 1931년에 세워졌다. 설계자는 박서연이다.",
        "ru.md": "# Старая мельница\n\nСтарая мельница построена в 1841 году мастером Фёдором Зиминым.",
        "ar.md": "# المكتبة القديمة\n\nبُنيت المكتبة القديمة عام 1887، وصمّمها المهندس يوسف النجار.",
        "de.md": "# Mühle Großenhain\n\nDie Mühle wurde 1790 von den Brüdern Kühn gebaut und ist ein Museum.",
        "en.md": "# Old mill\n\nThe old mill was built in 1803 by the brothers Hale, and it has two wheels.",
        "dev.md": "# सागर पुस्तकालय\n\nसागर पुस्तकालय की निदेशक प्रिया शर्मा हैं और यह मुंबई में है।",
        "us.md": "# US\n\nThe US has 50 states. Its population is 335 million.",
        "who.md": "# WHO\n\nThe WHO has its seat in Geneva.",
        "band.md": "# The Who\n\nThe Who were a band formed in London.",
        "france.md": "# France\n\nFrance has a population of 68 million, its capital a population of two. Ask us.",
        "seat.md": "# Seats of firms\n\nThe seat of the firm is where its seat is: the seat in Basel.",
        "cpp.md": "# C++\n\nC++ came from Bjarne.",
        "csharp.md": "# C#\n\nC# came from Anders.",
        "card.md": "# Cards\n\nThe RTX4090 draws 450 watts and costs $1,599.",
        "code.md": "# Reader\n\nCall `getUserName` before `set_user_name`.",
    }
    return _index(tmp_path_factory.mktemp("ranking"), pages)


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("陈立新", "zh.md"),
        ("图书馆藏书多少", "zh.md"),
        ("森本花子", "ja.md"),
        ("設計者は誰", "ja.md"),
        ("วิชัย", "th.md"),
        ("박서연", "ko.md"),
        ("도서관 설계자", "ko.md"),
        ("мельницы Зимин", "ru.md"),
        ("النجار", "ar.md"),
        ("Großenhain Mühlen", "de.md"),
        ("muhle grossenhain", "de.md"),
        ("प्रिया शर्मा", "dev.md"),
        ("who built old mills", "en.md"),
        ("population of the US", "us.md"),
        ("population of the U.S.", "us.md"),
        ("WHO seat", "who.md"),
        ("The Who", "band.md"),
        ("C++", "cpp.md"),
        ("C#", "csharp.md"),
        ("rtx 4090 watts", "card.md"),
        ("1599", "card.md"),
        ("get user name", "code.md"),
        ("population of france", "france.md"),
    ],
)
def test_the_page_that_is_meant_comes_first(index: Index, query: str, page: str) -> None:
    assert index.search_text(query, 3)[0].url == page


def test_chatter_before_a_question_does_not_push_it_out(tmp_path: Path) -> None:
    rng = random.Random(5)
    chatter = [
        f"{a}{b}" for a in ("mor", "tal", "ren", "sul", "kip") for b in ("ga", "den", "vik", "pom", "lus", "tar")
    ]
    pages = {f"{n}.md": f"# Page {n}\n\n" + " ".join(rng.sample(chatter, k=3)) for n in range(40)}
    index = _index(tmp_path, {**pages, "gold.md": "# Bhutan\n\nThe highest point of Bhutan is Gangkhar."})
    question = " ".join([*chatter, *(f"um{n}" for n in range(100)), "highest point of Bhutan"])
    assert index.search_text(question, 1)[0].url == "gold.md"


def test_a_rare_language_does_not_come_first_for_every_word(tmp_path: Path) -> None:
    pages = {
        f"{n}.md": f"# Waves {n}\n\nThe noise of waves is measured in the circuits of a receiver." for n in range(60)
    }
    pages["best.md"] = "# Noise\n\nNoise of waves: the noise is measured."
    pages["nl.md"] = "# Over\n\nDe noise van het waves is niet de measured van een circuits."
    assert _index(tmp_path, pages).search_text("noise of waves", 1)[0].url == "best.md"


def test_a_pages_whole_text_tells_which_of_two_passages_is_meant(tmp_path: Path) -> None:
    fact = "The bridge is forty metres long."
    filler = "Nothing else is told in this part of the text. " * 14
    pages = {
        "a.md": f"# Alpha\n\n{fact} {filler}\n\nIts architect was Quillan, and its stones are red. {filler}",
        "b.md": f"# Beta\n\n{fact} {filler}\n\nIts architect was Morrow, and its stones are grey. {filler}",
    }
    index = _index(tmp_path, pages)
    for architect, page in (("Quillan", "a.md"), ("Morrow", "b.md")):
        hits = index.search_text(f"how many metres long is the bridge, stones, {architect}", 4)
        assert next(hit.url for hit in hits if fact in hit.snippet) == page


def test_the_language_of_all_pages_can_be_set(tmp_path: Path) -> None:
    pages = {"a.md": "# Kühe\n\nHäuser 1790"}
    index = _index(tmp_path, pages, IndexSettings(language="de"))
    assert index.search_text("Haus", 1) and index.stats()["language"] == "de"
    with pytest.raises(UserError, match="language is 'klingon'"):
        IndexSettings(language="klingon")


def test_without_stems_words_are_found_as_they_are(tmp_path: Path) -> None:
    index = _index(tmp_path, {"a.md": "# Ships\n\nThe harbours were full."}, IndexSettings(stem=False))
    assert index.search_text("harbours", 1) and not index.search_text("harbouring", 1)


def test_titles_apart_count_where_they_are_the_better_of_the_two(tmp_path: Path) -> None:
    fact = "The museum of Oru is Peskin."
    pages = {
        "c/lim.md": "---\ntitle: Lim\n---\n\nThe museum of Lim is Vek.",
        "a/tor.md": "---\ntitle: Tor\n---\n\nTor has the museum Rask.",
        "b/nol.md": "---\ntitle: Nol\n---\n\nThe museum of Nol is Kersis.",
        "oru.md": f"---\ntitle: Oru\n---\n\n{fact}",
        "veld.md": "---\ntitle: Veld\n---\n\nOru is the capital of Veld. The river of Veld is Gor, its ruler is Mun.",
    }
    index = _index(tmp_path, pages, IndexSettings(titles="apart"))
    hits = [hit.url for hit in index.search_text("museum of Oru", 5)]
    # what names the page first, what is equal as the files are called, and long passages last
    assert hits == ["oru.md", "a/tor.md", "b/nol.md", "c/lim.md", "veld.md"]
    assert index.search_text('"museum of Oru"', 5)[0].snippet == fact


def test_a_word_of_titles_alone_is_known_where_they_are_apart(tmp_path: Path) -> None:
    pages = {"a.md": "---\ntitle: Harbour\n---\n\nShips lie here.", "b.md": "---\ntitle: Inn\n---\n\nHarbours are far."}
    index = _index(tmp_path, pages, IndexSettings(titles="apart", stem=False))
    assert index.replaced("harbour") == {}
    for query in ("harbour", '"harbour"', '"harbour" ships'):
        assert [hit.url for hit in index.search_text(query, 2)] == ["a.md"]


def test_where_titles_stand_is_a_setting_of_the_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="setting titles is 'beside'"):
        IndexSettings(titles="beside")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    usual = _index(tmp_path / "one", {"a.md": "# Oru\n\nA town."})
    apart = _index(tmp_path / "two", {"a.md": "# Oru\n\nA town."}, IndexSettings(titles="apart"))
    assert Index.open(apart.store.folder).settings.titles == "apart"
    assert usual.digest() != apart.digest()


GERMAN = {
    "court.md": "# Karlsruhe\n\nDas Bundesverfassungsgericht hat seinen Sitz in der Stadt und wurde 1951 gegründet.",
    "town.md": "# Bruchsal\n\nDie Stadt hat ein Schloss, das im Krieg zerstört und danach wieder aufgebaut wurde.",
    "farm.md": "# Hof\n\nDer Bauer hat Kühe und Pferde auf seinem Hof, die er im Sommer auf die Wiese treibt.",
}


def test_german_compounds_are_found_by_their_parts(tmp_path: Path) -> None:
    (tmp_path / "off").mkdir()
    index = _index(tmp_path, GERMAN)
    for query in ("Verfassungsgericht", "Bundesgericht", "Wann wurden die Verfassungsgerichte gegründet?"):
        assert index.search_text(query, 1)[0].url == "court.md"
    whole = _index(tmp_path / "off", GERMAN, IndexSettings(word_parts="off"))
    assert not whole.search_text("Verfassungsgericht", 1)


def test_a_compound_is_found_by_its_parts_among_pages_in_other_languages(tmp_path: Path) -> None:
    english = {
        f"{n}.md": f"# Town {n}\n\nThe court of the town was built in 19{n} by the people." for n in range(10, 18)
    }
    index = _index(tmp_path, {**GERMAN, **english})
    for query in ("Verfassungsgericht", "What is the Verfassungsgericht?"):
        assert index.search_text(query, 1)[0].url == "court.md"
    assert index.search_text("court of Town 12", 1)[0].url == "12.md"


def test_parts_that_unrelated_words_share_find_nothing(tmp_path: Path) -> None:
    pages = {
        "pipe.md": "# Rohre\n\nDie Leitung im Keller ist alt, und ihre Wartung kostet den Besitzer viel Geld.",
        "bank.md": "# Bank\n\nDer Berater nimmt die Zahlung an und schreibt die Quittung mit der Hand.",
        "wood.md": "# Wald\n\nIm Wald steht ein Motor, der seit der Negierung des Vertrags nicht mehr läuft.",
        "rain.md": "# Regel\n\nDie Regel gilt in der ganzen Gegend, solange die Rinde trennt.",
        "court.md": "# Karlsruhe\n\nDer Bundesgerichtshof hat seinen Sitz in der Stadt, in der ein Zahnarzt wohnt.",
    }
    index = _index(tmp_path, {**pages, "en.md": "# Town\n\nThe town was built by the people of the river in May."})
    unrelated = "Heizung Motte Versicherung Computer Wal Rente lieutenant Garage".split()
    assert [query for query in unrelated if index.search_text(query)] == []
    for query in ("Gericht", "Gerichte", "Zahn"):
        assert [hit.url for hit in index.search_text(query)] == ["court.md"]


def test_a_very_long_query_is_not_cut_into_parts(tmp_path: Path) -> None:
    snapshot = _index(tmp_path, GERMAN).store.snapshot()
    assert understood(snapshot, "Verfassungsgericht der Stadt").parts
    many = " ".join(f"die {a}{b}{c}igkeiten" for a in "bdfgk" for b in "aeiou" for c in "lmnrst")
    assert not understood(snapshot, many).parts and understood(snapshot, many).words == many


def test_words_that_hardly_change_have_no_parts(tmp_path: Path) -> None:
    index = _index(tmp_path, {"a.md": "# Lighthouse\n\nThe lighthouse was built by the keepers of the harbour."})
    assert not index.search_text("houseboat", 1)
    assert not index.store.snapshot().rank({}, {}, 1, None, {"hous": 1.0})


def test_an_index_without_parts_of_words_stays_so(tmp_path: Path) -> None:
    index = _index(tmp_path, GERMAN, IndexSettings(word_parts="off"))
    digest, meta = index.digest(), index.store.folder / "meta.json"
    # as it was written before there were parts
    meta.write_text(json.dumps({k: v for k, v in json.loads(meta.read_text()).items() if k != "word_parts"}))
    old = Index.open(index.store.folder)
    assert old.settings.word_parts == "off" and old.digest() == digest
    (tmp_path / "pages" / "new.md").write_text("# Neu\n\nDie Feuerwehr hat einen Turm.")
    built = Index.build(tmp_path / "pages", index.store.folder, IndexSettings())
    assert built.search_text("Feuerwehr", 1) and not built.search_text("Verfassungsgericht", 1)
    with pytest.raises(UserError, match="setting word_parts is 'some'"):
        IndexSettings(word_parts="some")


def test_where_titles_are_apart_words_have_no_parts(tmp_path: Path) -> None:
    index = _index(tmp_path, GERMAN, IndexSettings(titles="apart"))
    assert not index.search_text("Verfassungsgericht", 1)
    assert not index.store.snapshot().rank({}, {}, 1, None, {"fass": 1.0})


def test_a_short_text_is_in_the_language_of_those_around_it(tmp_path: Path) -> None:
    pages = {f"{n}.md": f"# Report {n}\n\nThe paper is on the sorting of lists by a machine." for n in range(40)}
    pages["short.md"] = "# Comment on sorting\n\nComment on lists"
    pages["fr.md"] = "# Tri\n\nLe papier est sur le tri des listes par une machine et il a été écrit dans la ville."
    languages = _index(tmp_path, pages).store.snapshot().tags("language:")
    assert languages == {"en": 41, "fr": 1}


def test_capitals_after_a_sentence_make_no_name(index: Index) -> None:
    asked = understood(index.store.snapshot(), "old mills built in 1803. The brothers, I think! Who were they")
    assert not asked.small and "the" not in asked.terms
    assert "who" in understood(index.store.snapshot(), "songs that The Who played in London").small


def test_a_word_of_every_passage_says_nothing(tmp_path: Path) -> None:
    index = _index(tmp_path, {f"{n}.md": f"# Ship {n}\n\nA ship of {n} tons." for n in range(40)})
    snapshot = index.store.snapshot()
    ((common, _),) = snapshot.rank({"ship": 1.0}, {}, 1)
    ((rare, _),) = snapshot.rank({"17": 1.0}, {}, 1)
    assert common < 0.03 < 3 < rare
    assert max(snapshot.rank_pages({"ship": 1.0}, 1).values()) < 0.03
