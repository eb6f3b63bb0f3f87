"""Whoever asks in another language is answered in it: prompts, summaries, and what counts as no answer."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.asking import Agent
from deepmmsearch.compose.policies import Translation, prompt_to_ask, translation
from deepmmsearch.judge import gave_up
from deepmmsearch.judge.reward import judge_reward
from deepmmsearch.language.detection import language_of
from deepmmsearch.prompts import load_prompt, prompt_languages, prompt_names
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.tools.llm_summarizer import ASKED_ABROAD, LlmSummarizer, read_citations
from deepmmsearch.types import Completion, Malformed, Prompt, Question

LANGUAGES = ("ar", "de", "es", "zh")
SETS = ("direct", "functions", "untrained", "untrained-text")
ASKED = {
    "en": "Whose flag is on the tower, and who built it?",
    "de": "Wem gehört die Flagge auf dem Turm und wer hat ihn gebaut?",
    "es": "¿De quién es la bandera de la torre y quién la construyó?",
    "zh": "塔上是谁的旗子？塔是谁建造的？",
    "ar": "لمن العلم الذي على البرج ومن بناه؟",
}


def texts(prompt: Prompt) -> dict[str, str]:
    return {"system": prompt.system, "user": prompt.user, **prompt.after}


def test_the_sets_for_untrained_models_stand_in_four_more_languages() -> None:
    assert {name for name in prompt_names() if prompt_languages(name)} == set(SETS)
    assert all(prompt_languages(name) == LANGUAGES for name in SETS)
    assert prompt_languages("no such set") == ()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", SETS)
def test_a_translation_says_the_same_in_the_same_form(name: str, language: str) -> None:
    own, other = load_prompt(name), load_prompt(name, language=language)
    assert (other.name, other.dialect) == (own.name, own.dialect)
    assert texts(other).keys() == texts(own).keys()
    for key, text in texts(own).items():
        said = texts(other)[key]
        # the same tags, calls and rules; only a worked example may bring them in another order
        assert sorted(re.findall(r"</?\w+>", said)) == sorted(re.findall(r"</?\w+>", text)), key
        assert len(re.findall("^- ", said, re.M)) == len(re.findall("^- ", text, re.M)), key
        assert said.count("{question}") == text.count("{question}")
    assert language_of(other.system) == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_worked_example_is_written_in_the_form(language: str) -> None:
    for name, turns in (("untrained", 3), ("untrained-text", 2)):
        system = load_prompt(name, language=language).system
        written = re.findall(r"<reason>[^\n]*</(?:img_search|text_search|answer)>$", system, re.M)
        assert len(written) == turns
        assert not any(isinstance(parse_action(turn), Malformed) for turn in written)
        # what it says where there is nothing to say counts as no answer
        assert gave_up(re.findall("<answer>(.*?)</answer>", system)[1])


class Asked(ScriptedPolicy):
    """Remembers the prompts that it was asked with."""

    async def act(self, trajectory: object) -> Completion:
        self.prompts = [*getattr(self, "prompts", []), trajectory.prompt]  # type: ignore[attr-defined]
        return await super().act(trajectory)  # type: ignore[arg-type]


@pytest.mark.parametrize("language", ASKED)
def test_a_question_is_asked_with_the_prompt_of_its_language(language: str) -> None:
    policy = Asked("<reason>r</reason><answer>x</answer>")
    with Agent(policy, prompt="untrained") as agent:
        reply = agent.ask(ASKED[language])
    expected = load_prompt("untrained", language=None if language == "en" else language)
    assert policy.prompts == [reply.trajectory.prompt] == [expected]


def test_a_question_in_a_language_that_no_set_has_is_asked_in_english() -> None:
    policy = Asked("<reason>r</reason><answer>x</answer>")
    with Agent(policy, prompt="untrained") as agent:
        agent.ask("Чей флаг на башне и кто её построил?")
    assert policy.prompts == [load_prompt("untrained")]


def test_what_was_added_to_a_prompt_stays() -> None:
    spoken = translation(ScriptedPolicy(), Toolbox(), "untrained")
    base = prompt_to_ask(ScriptedPolicy(), Toolbox(), "untrained")
    added = replace(base, system=f"{base.system}\n\nA tool.", user=f"{base.user}\n\nAt length.")
    german = spoken(added, Question("1", ASKED["de"]))
    other = load_prompt("untrained", language="de")
    assert german.system == f"{other.system}\n\nA tool." and german.user == f"{other.user}\n\nAt length."
    assert german.after == other.after


def test_a_set_of_ones_own_may_have_languages_too(tmp_path: object) -> None:
    folder = tmp_path / "mine"  # type: ignore[operator]
    for place, word in ((folder, "Answer"), (folder / "de", "Antworte")):
        place.mkdir()
        (place / "system.md").write_text(word)
        (place / "user.md").write_text("{question}")
    spoken = translation(ScriptedPolicy(), Toolbox(), str(folder))
    assert spoken(spoken.own, Question("1", ASKED["de"])).system == "Antworte"
    assert spoken(spoken.own, Question("1", ASKED["es"])).system == "Answer"


def test_training_and_evaluation_know_no_translation() -> None:
    assert AgentWorkflow(ScriptedPolicy(), load_prompt("untrained"), lambda _: Toolbox()).translate is None
    assert Translation(load_prompt("atlas"), {})(load_prompt("atlas"), Question("1", ASKED["de"])) == load_prompt(
        "atlas"
    )


@pytest.mark.parametrize(
    "said",
    [
        *(
            "Keine Antwort möglich.",
            "Ich weiß es nicht.",
            "Nicht bekannt",
            "Das ist mir leider nicht bekannt.",
            "Keine Ahnung",
        ),
        *("Leider weiß ich das nicht.", "Ich kann die Frage nicht beantworten.", "Weiß nicht", "Unbekannt."),
        *(
            "No se puede responder",
            "No lo sé.",
            "No sé",
            "No se\u0301",
            "Lo siento, no lo sé",
            "Se desconoce",
            "No hay información",
        ),
        *("无法回答。", "我不知道", "不知道。", "抱歉，我不知道。", "没有相关信息", "未知", "我不知道答案", "無法確定"),
        *("لا أعرف", "لا اعرف.", "عذراً، لا أعرف", "غير معروف", "لا توجد معلومات", "لا أَعْرِفُ", "لا يمكنني تحديد ذلك"),
        *(
            "I’m sorry, but I can’t answer that.",
            "I have no idea",
            "It cannot be determined.",
            "Not enough information",
            "I'm sorry.",
            "I'm afraid I don't know",
            "I do not have enough information",
            "The image does not contain enough information",
            "I've no idea",
            "Not found",
            "I dont know",
            "I cannot answer that, but I'm sorry.",
        ),
        *(
            "Tut mir leid",
            "Ich konnte keine Antwort finden",
            "Es gibt keine Informationen",
            "Nicht genügend Informationen",
        ),
        *("No dispongo de esa información", "La información no está disponible", "Desconozco la respuesta"),
        *("没有找到", "不知道啊", "根据提供的信息，无法确定", "آسف، لا أعرف"),
        *(
            "抱歉" + " " * 20_000 + "我不知道",
            "Unknown" + "." * 20_000,
        ),
    ],
)
def test_no_answer_is_none_in_other_languages(said: str) -> None:
    assert gave_up(said)


@pytest.mark.parametrize(
    "said",
    [
        *("Keine", "Unbekannter Meister", "Keine Antwort ist auch eine Antwort", "Nicht bekannt machen", "Leider"),
        *("No", "Sé", "Ni una más", "Se busca", "不知道乐队", "未知死亡", "无", "没有", "不明真相"),
        *(
            "Nosferatu",
            "لا",
            "غير",
            "لا مفر",
            "Not Known Records",
            "Unknown Pleasures",
            "Sorry",
            "It is not possible to tell from the image alone, but searching shows it is Paris.",
            "抱歉" + " " * 20_000 + "巴黎",
            "抱歉" + "." * 20_000 + "巴黎",
        ),
    ],
)
def test_what_only_sounds_like_it_is_an_answer(said: str) -> None:
    assert not gave_up(said)


@pytest.mark.parametrize(
    ("accepted", "said"),
    [
        ("Don't Say a Word", "Don't Say a Word (2001 film)"),
        ("Don't Know Why", "“Don’t Know Why” by Norah Jones"),
        ("No Answer", "No Answer (ELO album)"),
        ("Can't Find My Way Home", "Can't Find My Way Home by Blind Faith"),
        ("No puedo decir adiós", "No puedo decir adiós, de 2019"),
        ("无法找到的爱", "《无法找到的爱》这部电影"),
        ("لم أجد نفسي", "لم أجد نفسي (فيلم)"),
    ],
)
def test_a_title_that_sounds_like_giving_up_is_an_answer_where_it_is_accepted(accepted: str, said: str) -> None:
    assert gave_up(said) and not gave_up(said, [accepted])
    question = Question("q", "What is it called?", answers=(accepted,))
    assert judge_reward(question, said).reason != "gave up"


class Model:
    def __init__(self) -> None:
        self.requests: list[str] = []

    async def complete(self, conversation: object, pictures: object = ()) -> Completion:
        self.requests.append(conversation[0]["content"][0]["text"])  # type: ignore[index]
        return Completion("Der Turm ist alt. [1]")


@pytest.mark.parametrize("language", ASKED)
async def test_a_summary_is_asked_for_in_the_questions_language(language: str) -> None:
    model = Model()
    summarizer = LlmSummarizer(model)
    await summarizer.condense(ASKED[language], "tower", ["The tower is old."], "text")
    await summarizer.summarize(ASKED[language], "tower", ["The tower is old."])
    assert [ASKED_ABROAD in request for request in model.requests] == [language != "en"] * 2


@pytest.mark.parametrize(
    ("said", "sentences"),
    [
        ("港は深い。[1] 誰が掘ったのか？[2]", [("港は深い。", (1,)), ("誰が掘ったのか？", (2,))]),
        ("港は深い[1]。誰が掘ったのか[2]？", [("港は深い。", (1,)), ("誰が掘ったのか？", (2,))]),
        ("塔建于1871年。[1][3]后来倒塌了。[2]", [("塔建于1871年。", (1, 3)), ("后来倒塌了。", (2,))]),
        ("البرج قديم. [1] هل سقط؟ [2]", [("البرج قديم.", (1,)), ("هل سقط؟", (2,))]),
        ("मीनार पुरानी है। [1] वह गिर गई। [2]", [("मीनार पुरानी है।", (1,)), ("वह गिर गई।", (2,))]),
        ("კოშკი ძველია. [1] ის დაინგრა. [2]", [("კოშკი ძველია.", (1,)), ("ის დაინგრა.", (2,))]),
    ],
)
def test_a_citation_belongs_to_the_sentence_before_it(said: str, sentences: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(s.text, s.hits) for s in read_citations(said, 3)] == sentences
