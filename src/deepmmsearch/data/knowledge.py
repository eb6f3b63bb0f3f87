"""Knowledge benchmarks: a row of each as a question. docs/data.md says where each format was looked up.

Metadata that judges may use: `answer_type` ("string", "numerical", "time", "list", "choice"), `answer_range`
(numerical: the accepted range), `direct_answers` (OK-VQA, A-OKVQA: the ten answers of ten people, repetitions kept),
`answer_lists` (answer_type "list": every list is right when all of it is named).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

from deepmmsearch.data.answers import (
    flatten,
    is_chinese,
    is_time,
    number_range,
    options_text,
    parse_list,
    without_serials,
)
from deepmmsearch.data.benchmark import Draft
from deepmmsearch.data.columns import picture_columns, plain_names
from deepmmsearch.data.load_report import Skip
from deepmmsearch.data.pictures import is_address, named_by
from deepmmsearch.data.tables import Row
from deepmmsearch.notation import parse_json

_PLACEHOLDER = "<image>"
"""verl puts one for each picture before the question, or behind it."""
_ROLES = {"human": "user", "gpt": "assistant", "observation": "user", "function_call": "assistant"}


def role_and_content(message: Mapping[str, Any]) -> tuple[str, str]:
    """Of a message as OpenAI or ShareGPT writes it, in OpenAI's words; of contents in parts the texts."""
    role = str(message.get("role") or message.get("from") or "")
    content = message.get("content", message.get("value")) or ""
    if isinstance(content, list):
        content = "".join(map(_part, content))
    return _ROLES.get(role, role), str(content)


def _part(part: Any) -> str:
    if not isinstance(part, Mapping):
        return str(part) if isinstance(part, str) else ""
    return "<image>" if "image" in str(part.get("type", "")) else str(part.get("text") or "")


def metadata_of(found: Any) -> dict[str, Any]:
    """An object, or one that is written as JSON in a text."""
    if isinstance(found, str) and found.strip().startswith("{"):
        try:
            found = parse_json(found)
        except ValueError:
            return {"metadata": found}
    return dict(found) if isinstance(found, Mapping) else {}


def without_placeholders(text: str) -> str:
    """The question without the `<image>` before or behind it."""
    parts = text.split(_PLACEHOLDER)
    said = [number for number, part in enumerate(parts) if part.strip()]
    return _PLACEHOLDER.join(parts[said[0] : said[-1] + 1]).strip() if said else ""


def infoseek(row: Row, number: int) -> Draft:
    """InfoSeek (arXiv 2302.11713). Numbers are right within `range`, which goes to the metadata; its middle is the
    answer where none is written. The type is that of the `qtype` file, else told by the answers. Or a row of the CSV
    that goes with the Wikipedia of 100,000 articles, in the form of Encyclopedic-VQA."""
    if "dataset_image_ids" in row:
        draft = encyclopedic_vqa(row, number)
        name = str(row.get("data_id") or f"infoseek-{number:06d}")
        return replace(draft, id=name, files=tuple(each for file in draft.files for each in _oven(file)))
    ends = number_range(row.get("answer_eval"))
    answers = flatten(row.get("answer"))
    if ends is None:
        answers += flatten(row.get("answer_eval"))
    elif not answers:
        answers = flatten((ends[0] + ends[1]) / 2)
    kind = str(row.get("question_type") or "").lower()
    if kind not in ("string", "numerical", "time"):
        kind = "numerical" if ends else "time" if answers and all(map(is_time, answers)) else "string"
    image = str(row["image_id"])
    metadata: dict[str, Any] = {"answer_type": kind, "image_id": image}
    if ends is not None:
        metadata["answer_range"] = list(ends)
    for key in ("data_split", "entity_id", "entity_text"):
        if row.get(key):
            metadata[key] = row[key]
    picture = row.get("image") or row.get("image_path")
    return Draft(str(row["data_id"]), str(row["question"]), picture, answers, metadata, _oven(image))


def _oven(image: str) -> tuple[str, ...]:
    """OVEN keeps its pictures in folders named by the first two digits."""
    bucket = image.partition("_")[2][:2]
    return (image, f"{bucket}/{image}") if bucket else (image,)


def encyclopedic_vqa(row: Row, number: int) -> Draft:
    """Encyclopedic-VQA (arXiv 2306.09224): `|` between the answers of several people, `&&` within one that is a list.
    Of up to five pictures the first that is there is asked about."""
    kind = str(row.get("question_type", ""))
    references = [part.strip() for part in str(row.get("answer") or "").split("|") if part.strip()]
    lists = [[item.strip() for item in reference.split("&&") if item.strip()] for reference in references]
    images = [name for name in str(row.get("dataset_image_ids") or "").split("|") if name.strip()]
    if not images:
        raise Skip("no picture named")
    known = row.get("_files") or {}
    files: list[str] = []
    for name in (part.strip() for part in images):
        files += [known[name]] if name in known else []
        files += [name, f"{'/'.join(name[:3])}/{name}"] if row.get("dataset_name") == "landmarks" else [name]
    several = any(len(items) > 1 for items in lists)
    metadata: dict[str, Any] = {
        "answer_type": "list" if several else "string",
        "question_type": kind,
        "image_ids": images,
        **({"answer_lists": lists} if several else {}),
    }
    for key in ("dataset_name", "wikipedia_url", "wikipedia_title", "question_original"):
        if row.get(key):
            metadata[key] = row[key]
    name = str(row.get("data_id") or f"evqa-{row.get('encyclopedic_vqa_split') or 'row'}-{number:06d}")
    answers = [", ".join(items) for items in lists]
    return Draft(name, str(row["question"]), row.get("image"), answers, metadata, tuple(files))


def simplevqa(row: Row, number: int) -> Draft:
    """SimpleVQA (arXiv 2502.13059), the questions in English; the picture is base64 or bytes."""
    return _simplevqa(row, number, "English", ("EN",))


def simplevqa_zh(row: Row, number: int) -> Draft:
    """The questions in Chinese."""
    return _simplevqa(row, number, "Chinese", ("CN", "ZH"))


def _simplevqa(row: Row, number: int, language: str, codes: tuple[str, ...]) -> Draft:
    if not str(row.get("language") or "").upper().startswith(codes):
        raise Skip(f"not in {language}")
    metadata = {key: row[key] for key in ("original_category", "source", "vqa_category") if row.get(key)}
    return Draft(
        f"simplevqa-{row.get('data_id', number)}",
        str(row["question"]),
        row.get("image"),
        flatten(row.get("answer")),
        {"answer_type": "string", **metadata},
    )


def dynvqa(row: Row, number: int) -> Draft:
    """DynVQA (arXiv 2411.02937), the questions in English.

    Known defects of the files, all mended or counted: `golden_query` is `gloden_query` until December 2024; some
    answers are null; some are lists within the list; some numbers are dates as a spreadsheet counts days; in some
    months the answers of a tenth of the English questions are only in Chinese.
    """
    if is_chinese(str(row["question"])):
        raise Skip("not in English")
    answers = without_serials(flatten(row.get("answer")))
    if answers and all(map(is_chinese, answers)):
        raise Skip("answers only in Chinese", answers[0])
    return _dynvqa(row)


def dynvqa_zh(row: Row, number: int) -> Draft:
    """The questions in Chinese; their answers may be in either language."""
    if not is_chinese(str(row["question"])):
        raise Skip("not in Chinese")
    return _dynvqa(row)


def _dynvqa(row: Row) -> Draft:
    text, written = str(row["question"]), flatten(row.get("answer"))
    answers = without_serials(written)
    notes = []
    if len(answers) < len(written):
        notes.append("spreadsheet's number of a date left out of the answers")
    if "gloden_query" in row:
        notes.append("gloden_query read as golden_query")
    golden = flatten(row.get("golden_query", row.get("gloden_query")))
    address = str(row.get("image_url") or "")
    metadata = {"answer_type": "string", "image_url": address, **({"golden_query": golden[0]} if golden else {})}
    name = str(row["question_id"])
    return Draft(f"dynvqa-{name}", text, address or row.get("image"), answers, metadata, (name,), notes=tuple(notes))


def okvqa(row: Row, number: int) -> Draft:
    """OK-VQA (arXiv 1906.00067): ten answers of ten people; every different one is accepted, all ten are kept for the
    VQA accuracy."""
    given = flatten(row.get("answers"))
    name = str(row["question_id"])
    metadata = {"answer_type": "string", "direct_answers": given}
    for key in ("question_type", "image_id"):
        if row.get(key) is not None:
            metadata[key] = row[key]
    return Draft(f"okvqa-{name}", str(row["question"]), row.get("image"), given, metadata, _coco(row))


def aokvqa(row: Row, number: int) -> Draft:
    """A-OKVQA (arXiv 2206.01718): ten direct answers (a list, or its Python notation in one text) and four choices.
    The test split has no answers."""
    given = flatten(row.get("direct_answers"))
    choices = row.get("choices") or []
    choices = (parse_list(choices) or []) if isinstance(choices, str) else list(choices)
    metadata: dict[str, Any] = {"answer_type": "string", "direct_answers": given, "choices": choices}
    right = row.get("correct_choice_idx")
    answers = list(given)
    if right not in (None, "") and 0 <= int(right) < len(choices):
        metadata["correct_choice"] = choices[int(right)]
        answers.insert(0, choices[int(right)])
    if row.get("difficult_direct_answer") is not None:
        metadata["difficult_direct_answer"] = bool(row["difficult_direct_answer"])
    return Draft(f"aokvqa-{row['question_id']}", str(row["question"]), row.get("image"), answers, metadata, _coco(row))


def aokvqa_choices(row: Row, number: int) -> Draft:
    """A-OKVQA with its four choices put to the model: the second of its two tasks."""
    draft = aokvqa(row, number)
    choices = [str(choice) for choice in draft.metadata["choices"]]
    if "correct_choice" not in draft.metadata:
        raise Skip("no answer")
    right = draft.metadata["correct_choice"]
    metadata = {**draft.metadata, "answer_type": "choice", "choices": choices}
    answers = [ascii_uppercase[choices.index(right)], right]
    return replace(draft, text=f"{draft.text}\n{options_text(choices)}", answers=answers, metadata=metadata)


def fvqa(row: Row, number: int) -> Draft:
    """FVQA (arXiv 2506.20670) and every Parquet file of verl's shape: `prompt`, `images`, `reward_model`."""
    asked = [content for role, content in map(role_and_content, row["prompt"]) if role in ("", "user")]
    if not asked:
        raise Skip("no question")
    reward = row.get("reward_model") or {}
    answers = [*flatten(reward.get("ground_truth")), *flatten(reward.get("candidate_answers"))]
    metadata: dict[str, Any] = {"answer_type": "string"}
    for key in ("data_source", "category", "image_urls"):
        if row.get(key):
            metadata[key] = row[key]
    name = str(row.get("data_id") or f"{row.get('data_source') or 'row'}-{number:06d}")
    images = row.get("images")
    pictures = images if isinstance(images, list) else picture_columns(plain_names(row))[0]
    return Draft(name, without_placeholders(asked[-1]), pictures, answers, metadata)


def mmsearch(row: Row, number: int) -> Draft:
    """MMSearch (arXiv 2409.12959), end to end. A part of the questions has no picture, and is kept without."""
    answers = [*flatten(row.get("gt_answer")), *flatten(row.get("alternative_gt_answers"))]
    metadata = {
        key: row[key] for key in ("area", "subfield", "timestamp", "gt_requery") if row.get(key) not in (None, "")
    }
    return Draft(
        f"mmsearch-{row['sample_id']}",
        str(row["query"]),
        row.get("query_image"),
        answers,
        {"answer_type": "string", **metadata},
        needs_picture=False,
    )


def livevqa(row: Row, number: int) -> Draft:
    """LiveVQA (arXiv 2504.05288): the authors' `benchmark.json` (flattened: one question a row), the rows of
    LiveVQA-new or `qa.json` of the Research Preview. Choices are not put into the question: the answer is to be
    found."""
    text = row.get("question") or row.get("query") or ""
    options = [str(option) for option in flatten(row.get("options"))]
    letter = str(row.get("Ground_Truth") or row.get("ground_truth") or "").strip()
    answers = [*flatten(row.get("Ground_Truth_List") or []), *flatten(row.get("gt_answer"))]
    chosen = [option.partition(". ")[2] for option in options if option.startswith(f"{letter}. ")]
    answers += chosen or ([letter] if len(letter) > 1 else [])
    name = str(row.get("id") or row.get("sample_id") or number)
    level = row.get("level")
    metadata: dict[str, Any] = {"answer_type": "string", **({"options": options} if options else {})}
    for key in ("question_type", "topic", "source", "time", "level", "part"):
        if row.get(key) not in (None, ""):
            metadata[key] = row[key]
    picture = row.get("image") or row.get("img_path") or row.get("query_image")
    if isinstance(picture, str) and is_address(picture):
        return Draft(_live_id(name, level), str(text), picture, answers, metadata, (named_by(picture),))
    if isinstance(picture, str):
        picture = picture.lstrip("/")
    return Draft(_live_id(name, level), str(text), picture, answers, metadata)


def _live_id(name: str, level: Any) -> str:
    return f"livevqa-{name}-{level}" if level not in (None, "") else f"livevqa-{name}"


def _coco(row: Row) -> tuple[str, ...]:
    """How COCO names the picture of a number, in 2014 (with its split) and in 2017."""
    if row.get("image_id") in (None, ""):
        return ()
    number = str(row["image_id"])
    if not number.isdigit():
        return (number,)
    padded = number.zfill(12)
    return (padded, *(f"COCO_{split}_{padded}" for split in ("val2014", "train2014", "test2015")))
