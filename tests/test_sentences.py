"""Sentences of all scripts, and what long ones are cut into."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmmsearch.language.sentence_ends import cut, split_paragraph

SENTENCES = [
    ("The tower fell. Nobody knew why! Did it burn? Perhaps…", 4),
    ("港は深い。誰が掘ったのか？古い話だ！", 3),
    ("他说：“我来了。”然后走了。", 1),
    ("“我来了。”“好。”", 2),
    ("बंदरगाह गहरा है। नदी लंबी है॥ पुल पुराना है।", 3),
    ("الميناء عميق. هل النهر طويل؟ نعم.", 3),
    ("بندرگاہ گہری ہے۔ دریا لمبا ہے۔", 2),
    ("ወደቡ ጥልቅ ነው። ወንዙ ረጅም ነው።", 2),
    ("ဆိပ်ကမ်းသည် နက်သည်။မြစ်သည် ရှည်သည်။", 2),
    ("កំពង់ផែជ្រៅ\u17d4 ទន្លេវែង\u17d4", 2),
    ("Նավահանգիստը խորն է: Գետը երկար է:", 2),
    ("Πόσο βαθύ είναι το λιμάνι; Το ποτάμι είναι μακρύ.", 2),
    ("ნავსადგური ღრმაა. მდინარე გრძელია. ვინ ააშენა? არავინ იცის.", 4),
    ("She lives in the U.S. The house is old.", 2),
    ("Dr. Holm met Mrs. Krag and J. R. Moe.", 1),
    ("It holds many fish, e.g. Cod, and plants (cf. Fig. 3), see No. 5 and Vol. IV.", 1),
    ("He said no. They left at 3.15 for Moss.", 2),
    ("Am 3. Oktober kam er in den 2. Stock. Im 19. Jahrhundert lag hier z. B. Eis.", 2),
    ("Es waren 12. Der Rest fehlte.", 2),
    ("Он жил в г. Москва на ул. Ленина. А. И. Кузнецов родился в 1920 г. Он был врачом.", 3),
    ("Il vit M. Dupont et Mme. Roy. Elle partit.", 2),
    ("He asked: “Why?” Nobody knew... Then it rained.", 3),
    ("The parish paid for it.[12] The rest was lent. [3] It was never paid back.", 3),
    ("„Ich habe keine Zeit.“ Wir gingen.", 2),
    ("It sold 3.5 million (1.2 in 1990). Yahoo! paid.", 2),
    ("1. The first of them", 1),
    ("Visit example.com for more. See v2.0 of it.", 2),
]


@pytest.mark.parametrize(("text", "count"), SENTENCES)
def test_sentences_end_where_people_end_them(text: str, count: int) -> None:
    found = split_paragraph(text)
    assert len(found) == count, found
    assert "".join("".join(found).split()) == "".join(text.split())


@settings(max_examples=200)
@given(st.text(alphabet="aB1.!?。；; \n\u0301\u200d”)「[]", max_size=80), st.integers(1, 20))
def test_nothing_is_lost_but_white_space(text: str, size: int) -> None:
    for found in (split_paragraph(text), cut(text, size)):
        assert all(found) and "".join("".join(found).split()) == "".join(text.split())
    assert all(len(piece) <= size for piece in cut(text, size))


def test_long_texts_are_cut_between_words_clauses_or_whole_letters() -> None:
    assert cut("one two three four", 9) == ["one two", "three", "four"]
    assert cut("港は深くて暗いのに、船はいつも夜に入ってくる", 12)[0] == "港は深くて暗いのに、"
    accented = "e\u0301" * 50
    assert all(not unicodedata.combining(piece[0]) for piece in cut(accented, 7))
    family = "👨\u200d👩\u200d👧" * 9
    assert all(piece[0] == "👨" and piece[-1] == "👧" for piece in cut(family, 12))
