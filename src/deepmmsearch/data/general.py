"""General benchmarks (DeepMMSearch-R1, Table 2): is what the base model could do kept? A row of each as a question.

Multiple choice is put as lines `A. ...`; the letter and the text of the right choice are both accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepmmsearch.data.answers import flatten, options_text, parse_list
from deepmmsearch.data.benchmark import Draft
from deepmmsearch.data.load_report import Skip
from deepmmsearch.data.tables import Row


def ocrbench(row: Row, number: int) -> Draft:
    """OCRBench (arXiv 2305.07895): the Hub's table, or `OCRBench.json` of its authors, whose ids repeat. Officially an
    answer is right when it contains an accepted one."""
    given = row["answers"] if "answers" in row else row.get("answer")
    texts = [given] if isinstance(given, str) else list(given if given is not None else ())
    metadata = {
        "answer_type": "string",
        "match": "contains",
        **_named(row, "dataset", "dataset", "dataset_name"),
        **_named(row, "question_type", "question_type", "type"),
    }
    name = str(row.get("id", f"{number:04d}"))
    name = f"{row['dataset_name']}-{name}" if row.get("dataset_name") else name
    return Draft(f"ocrbench-{name}", str(row["question"]), _image(row), [str(text) for text in texts], metadata)


def mmvet(row: Row, number: int) -> Draft:
    """MM-Vet (arXiv 2308.02490): `<OR>` between accepted answers, `<AND>` between parts that must all be named.
    Officially a language model scores it."""
    written = str(row.get("answer") or "")
    lists = [[part.strip() for part in choice.split("<AND>") if part.strip()] for choice in written.split("<OR>")]
    lists = [parts for parts in lists if parts]
    several = any(len(parts) > 1 for parts in lists)
    metadata: dict[str, Any] = {
        "answer_type": "list" if several else "string",
        "match": "llm",
        **({"answer_lists": lists} if several else {}),
        **_some(row, "capability"),
    }
    name = str(row.get("question_id") or row.get("id") or number)
    return Draft(f"mmvet-{name}", str(row["question"]), _image(row), [", ".join(p) for p in lists], metadata)


def ai2d(row: Row, number: int) -> Draft:
    """AI2D (arXiv 1603.07396) as lmms-eval keeps it: `answer` is the number of the option, as text."""
    options = _options(row["options"])
    return _choice(f"ai2d-{row.get('id', f'{number:05d}')}", row, options, int(row["answer"]))


def mathvista(row: Row, number: int) -> Draft:
    """MathVista (arXiv 2310.02255), testmini. Free answers carry their type, precision and unit."""
    choices = _options(row.get("choices") or [])
    name = f"mathvista-{row['pid']}"
    answer = str(row.get("answer") or "").strip()
    extra = _some(row, "answer_type", "precision", "unit", "question_type")
    if choices:
        if answer not in choices:
            raise Skip("answer is none of the choices", answer)
        return _choice(name, row, choices, choices.index(answer), {"question_type": extra.get("question_type", "")})
    numeric = extra.pop("answer_type", "text") in ("integer", "float")
    unit = f" (Unit: {row['unit']})" if row.get("unit") else ""
    metadata = {"answer_type": "numerical" if numeric else "string", **extra}
    return Draft(name, f"{row['question']}{unit}", _image(row), [answer], metadata)


def mmbench(row: Row, number: int) -> Draft:
    """MMBench (arXiv 2307.06281), English: the TSV of its authors or the Hub's table. The test split has no answers.
    Rows whose numbers differ by millions are one question with its options moved on, right where all of them are."""
    options = [str(row[letter]) for letter in "ABCDE" if not _empty(row.get(letter))]
    answer = str(row.get("answer") or "").strip().upper()
    if len(answer) != 1 or not "A" <= answer < chr(ord("A") + len(options)):
        raise Skip("no answer")
    hint = "" if _empty(row.get("hint")) else f"{row['hint']}\n"
    index = int(row.get("index", number))
    extra = {"circular": f"mmbench-{index % 1_000_000}", **_some(row, "category", "L2-category")}
    return _choice(f"mmbench-{index}", row, options, ord(answer) - ord("A"), extra, hint)


def docvqa(row: Row, number: int) -> Draft:
    """DocVQA (arXiv 2007.00398) and InfographicVQA (arXiv 2104.12756): officially scored with ANLS. The test splits
    have no answers. The authors' JSON names the picture in `image` or `image_local_name`."""
    picture = row.get("image_local_name") or _image(row)
    name = str(row.get("questionId", number))
    metadata = {"answer_type": "string", "match": "anls", **_some(row, "question_types", "docId")}
    return Draft(f"docvqa-{name}", str(row["question"]), picture, flatten(row.get("answers")), metadata)


def infovqa(row: Row, number: int) -> Draft:
    draft = docvqa(row, number)
    return Draft(draft.id.replace("docvqa", "infovqa", 1), draft.text, draft.picture, draft.answers, draft.metadata)


def _choice(
    name: str, row: Row, options: Sequence[str], right: int, extra: dict[str, Any] | None = None, hint: str = ""
) -> Draft:
    letter = chr(ord("A") + right)
    metadata = {"answer_type": "choice", "choices": list(options), "correct_choice": options[right], **(extra or {})}
    text = f"{hint}{row['question']}\n{options_text(options)}"
    return Draft(name, text, _image(row), [letter, options[right]], metadata)


def _options(found: Any) -> list[str]:
    return [str(o) for o in (parse_list(found) or []) if o is not None] if isinstance(found, str) else list(found)


def _image(row: Row) -> Any:
    for key in ("decoded_image", "image", "image_path", "img_path", "imagename"):
        if not _empty(row.get(key)):
            return row[key]
    return None


def _empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("", "nan")
    return value is None or (isinstance(value, float) and value != value)


def _some(row: Row, *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys if not _empty(row.get(key))}


def _named(row: Row, name: str, *keys: str) -> dict[str, Any]:
    """The first of `keys` that says something, under `name`."""
    said = [row[key] for key in keys if not _empty(row.get(key))]
    return {name: said[0]} if said else {}
