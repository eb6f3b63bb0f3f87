"""Does an answer say that there is none? In the languages that the prompt sets have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepmmsearch.normal_forms import normal_form

# Each matches from the beginning. Words that may also begin an answer ("Unknown Pleasures", "No", "不知道乐队") count
# only where nothing follows them: END
_END = r"\W*$"
_ENGLISH = (
    r"(?:(?:i\s+am|i'm)\s+(?:very\s+)?)?sorry\W+(?:but\s+)?|unfortunately\W+|(?:i\s+am|i'm)\s+afraid\W+(?:that\s+)?",
    r"(?:i\s+am\s+|i'm\s+|i\s+was\s+|it\s+is\s+|it's\s+|this\s+is\s+|that\s+is\s+)?(?:unable\s+to|unknown{end}|"
    r"not\s+(?:sure|known|possible|available|clear|enough\s+information){end}|not\s+able\s+to\s+(?:answer|say|tell)|"
    r"not\s+enough\s+information\b|not\s+possible\s+to\s+(?:answer|say|tell|determine|identify)|unanswerable{end})|"
    r"(?:i\s+am|i'm)\s+(?:very\s+)?sorry{end}|not\s+found{end}|(?:i\s+)?(?:do\s+not|don't)\s+have\s+enough\s+information\b|"
    r"(?:the|this)\s+(?:image|picture|photo|text|page|context)\s+does\s+not\s+(?:contain|provide|show|give)\s+enough\s+"
    r"information\b|(?:i\s+)?(?:do\s+not|don't|dont|cannot|can't|can\s+not|could\s+not|couldn't|did\s+not|didn't)\s+"
    r"(?:know|answer|determine|find|say|tell|identify)|"
    r"(?:(?:it|this|that|the\s+(?:answer|question))\s+)?(?:cannot|can't|can\s+not|could\s+not)\s+be\s+"
    r"(?:answered|determined|found|identified|known)|"
    r"(?:i\s+have\s+|i've\s+|there\s+is\s+|there's\s+|i\s+found\s+)?no\s+(?:answer|idea|information)\b|"
    r"n/a{end}|insufficient\s+information|(?:the\s+)?answer\s+is\s+(?:unknown|not\s+known)",
)
_GERMAN = (
    r"(?:es\s+)?(?:tut\s+mir\s+(?:sehr\s+)?leid|entschuldigung|leider)\W+(?:aber\s+)?",
    r"(?:es\s+)?tut\s+mir\s+(?:sehr\s+)?leid{end}|es\s+gibt\s+keine\s+(?:informationen|angaben|antwort)\b|"
    r"nicht\s+gen(?:ü|ue)gend\s+informationen\b|ich\s+konnte\s+(?:leider\s+)?keine\s+(?:antwort|informationen|angaben)\b|"
    r"wei(?:ß|ss)\s+ich\s+(?:das\s+|es\s+|leider\s+)*nicht{end}|keine\s+(?:antwort\s+möglich|(?:antwort|ahnung|angaben?|informationen?|auskunft)"
    r"(?:\s+(?:möglich|bekannt|verfügbar|vorhanden|gefunden))?{end})|"
    r"(?:das\s+|es\s+)?(?:wei(?:ß|ss)\s+ich\s+(?:leider\s+)?nicht|ist\s+(?:mir\s+)?(?:leider\s+)?"
    r"(?:nicht\s+bekannt|unbekannt){end})|"
    r"(?:ich\s+)?wei(?:ß|ss)\s+(?:(?:es|das|die\s+antwort)\s+)?(?:leider\s+)?nicht{end}|"
    r"(?:die\s+antwort\s+ist\s+)?(?:mir\s+)?(?:leider\s+)?(?:nicht\s+(?:bekannt|sicher|möglich|bestimmbar|feststellbar|"
    r"ermittelbar|beantwortbar|zu\s+(?:beantworten|bestimmen|ermitteln|erkennen)|genug\s+informationen)|unbekannt){end}|"
    r"(?:ich\s+kann|kann\s+ich|(?:das|es|die\s+frage|diese\s+frage)\s+kann(?:\s+ich)?|lässt\s+sich|"
    r"(?:das|es|die\s+frage)\s+lässt\s+sich)\s+(?:(?:das|es|dies|diese\s+frage|die\s+frage|die\s+antwort)\s+)?"
    r"(?:leider\s+)?nicht\s+(?:beantwort|bestimm|sagen|feststell|ermittel|erkenn|find|identifizier)|"
    r"ich\s+(?:bin\s+(?:mir\s+)?nicht\s+sicher|habe\s+keine\s+(?:ahnung|informationen|antwort))",
)
_SPANISH = (
    r"(?:lo\s+siento|perdón|disculpa|lamentablemente|por\s+desgracia)\W+(?:pero\s+)?",
    r"no\s+dispongo\s+de\s+(?:es[ao]s?|est[ao]s?|l[ao]s?|un[ao]s?)\s+(?:información|datos?|respuesta)\b|"
    r"la\s+(?:información|respuesta)\s+no\s+está\s+disponible\b|desconozco\s+(?:la\s+respuesta|es[ao]){end}|"
    r"(?:yo\s+)?no\s+(?:lo\s+)?sé{end}|no\s+sé\s+la\s+respuesta\b|"
    r"(?:es\s+)?desconocid[oa]{end}|se\s+desconoce\b|lo\s+desconozco|ni\s+idea{end}|no\s+lo\s+conozco|no\s+se\s+sabe\b|"
    r"(?:la\s+respuesta\s+)?no\s+(?:(?:me\s+)?es\s+posible|se\s+puede|se\s+pudo|puedo|pude|he\s+podido|podemos)\s+"
    r"(?:responder|contestar|determinar|saber|identificar|encontrar|decir)|"
    r"no\s+(?:tengo|hay|existe|encontré|he\s+encontrado|se\s+encontró|dispongo\s+de)\s+(?:ni\s+|ninguna\s+|suficiente\s+|la\s+|una\s+)?"
    r"(?:idea|información|respuesta|datos)|sin\s+(?:respuesta|información|datos){end}|"
    r"no\s+(?:estoy\s+segur[oa]|es\s+conocid[oa]|disponible){end}|información\s+insuficiente",
)
_CHINESE = (
    r"(?:很|非常|真)?(?:抱歉|对不起|對不起|不好意思|遗憾|遺憾)\W*(?:但是?\W*)?|(?:根据|根據)\w{0,12}(?:信息|資訊|内容|资料|資料)\W*",
    r"(?:我|我们|這|这|这个问题|答案)?(?:也|真的|并|還|还|是|暂时|目前)*(?:不知道|不清楚|不了解|不确定|不確定|不晓得|不曉得|未知|"
    r"不详|不詳|不明|没有找到|沒有找到)[啊呢吧呀哦]?{end}|(?:我|我们)?(?:也|真的|并)*(?:不知道|不清楚)(?:这个|該|该)?(?:问题)?的?答案|"
    r"(?:我|我们|目前|暂时|答案|这个问题|该问题)*(?:无法|無法|不能|未能|没法|沒法)(?:回答|確定|确定|判断|判斷|得知|识别|識別|找到|查到|获知|提供答案)|"
    r"(?:我|目前|暂时)*(?:没有|沒有|缺少|缺乏|未找到|找不到|没找到|没有找到|暂无)(?:相关|相關|足够|足夠|任何|可用|的)*(?:信息|資訊|答案|资料|資料|线索)|"
    r"(?:信息|资料)不足|无从得知",
)
# without points and with one alif, as people type it
_ARABIC = (
    r"(?:عذرا|معذرة|اسف|انا\s+اسف|للاسف)\W+(?:ولكن|لكن)?\s*",
    r"(?:انا\s+)?لا\s+(?:اعرف|ادري|اعلم|نعرف|نعلم){end}|(?:انا\s+)?لا\s+(?:اعرف|اعلم)\s+(?:الاجابة|الجواب)|"
    r"لا\s+(?:يمكن(?:ني)?|استطيع|اقدر(?:\s+علي)?)\s+(?:الاجابة|تحديد|معرفة|العثور|القول|التعرف)|"
    r"لا\s+(?:توجد|يوجد|تتوفر|املك|لدي)\s+(?:لدي\s+)?(?:اي\s+)?(?:معلومات|اجابة|جواب)|"
    r"(?:الاجابة\s+|الجواب\s+)?(?:غير\s+(?:معروف|معلوم|متوفر|متاح|محدد|مؤكد)|مجهول)ة?{end}|"
    r"ليس(?:ت)?\s+(?:لدي|عندي)\s+(?:اي\s+)?(?:فكرة|معلومات|اجابة|علم)|لست\s+(?:متاكدا?|واثقا?|ادري){end}|"
    r"[تي]تعذر\s+(?:علي\s+)?(?:الاجابة|تحديد|معرفة)|لم\s+(?:اجد|اعثر|اتمكن|يتم\s+العثور)",
)
_LANGUAGES = (_ENGLISH, _GERMAN, _SPANISH, _CHINESE, _ARABIC)
_GIVE_UP = re.compile(
    "|".join(rf"\W*(?:{before})?(?:{said})" for before, said in _LANGUAGES).replace("{end}", _END), re.IGNORECASE
)
_BUT = re.compile(
    r"\b(?:but|however|although|though|yet|aber|jedoch|doch|allerdings|pero|sin\s+embargo|aunque|(?:و?لكن(?:ه|ها)?))\b|但|不过|不過|然而",
    re.IGNORECASE,
)
_TYPED = str.maketrans(
    {"’": "'", "أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ـ": None} | {chr(c): None for c in range(0x64B, 0x653)}
)
_AROUND = " .,;:!?\"'“”‘„«»《》「」()[]*_`"
_LONGEST = 400
"""Characters of an answer that are looked at, blanks aside: whoever gives up says so at once."""


def gave_up(answer: str | None, accepted: Sequence[str] = ()) -> bool:
    """No answer, or one that says that there is none ("Unable to answer due to lack of relevant information"), and
    nothing after a "but". What begins with an `accepted` answer does not, whatever that one sounds like."""
    if answer is None or not any(map(str.isalnum, answer)):
        return True
    said = _prepared(answer)
    if any(_begins(said, text) for text in map(_prepared, accepted)):
        return False
    while found := _GIVE_UP.match(said):
        if (but := _BUT.search(said, found.end())) is None or not any(map(str.isalnum, said[but.end() :])):
            return True
        said = said[but.end() :]
    return False


def _prepared(text: str) -> str:
    text = " ".join(text.split())[:_LONGEST]
    return normal_form("NFC", text).translate(_TYPED).strip(_AROUND)


def _begins(said: str, accepted: str) -> bool:
    rest = said[len(accepted) :]
    return bool(accepted) and said.casefold().startswith(accepted.casefold()) and not rest[:1].isalnum()
