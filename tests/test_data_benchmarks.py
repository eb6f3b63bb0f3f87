"""Knowledge benchmarks: rows in the true formats become questions; what cannot is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from conftest import Offer
from data_files import (
    base64_picture,
    picture_bytes,
    shared,
    write_json,
    write_lines,
    write_picture,
    write_table,
)
from deepmmsearch.data.benchmark import QuestionSet
from deepmmsearch.data.pictures import named_by
from deepmmsearch.data.published import BENCHMARKS, open_questions
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.judge import JUDGES, RuleJudge


def opened(name: str, path: Path, **options: object) -> tuple[QuestionSet, dict[str, object]]:
    asked = BENCHMARKS.find(name).open(path, **options)  # type: ignore[arg-type]
    return asked, {question.id: question for question in asked}


def test_infoseek_numbers_times_and_texts(tmp_path: Path) -> None:
    rows = [
        {
            "data_id": "infoseek_val_00000000",
            "image_id": "oven_04990048",
            "question": "How long is this bridge, in metre?",
            "answer": ["1280.2"],
            "answer_eval": [{"wikidata": 1280.2, "range": [1152.18, 1408.22]}],
            "data_split": "val_unseen_entity",
        },
        {
            "data_id": "infoseek_val_00000001",
            "image_id": "oven_00000002",
            "question": "When was it opened?",
            "answer": ["1937"],
            "answer_eval": ["1937", "1937-05", "27 May 1937"],
            "data_split": "val_unseen_question",
        },
        {
            "data_id": "infoseek_val_00000002",
            "image_id": "oven_00000003",
            "question": "Who is it named after?",
            "answer": ["Golden Gate"],
            "answer_eval": ["Golden Gate", "The Golden Gate"],
            "data_split": "val_unseen_question",
        },
        {"data_id": "infoseek_val_00000003", "image_id": "oven_00000004", "question": "Who?", "answer_eval": ["X"]},
        {
            "data_id": "infoseek_val_00000004",
            "image_id": "oven_04990048",
            "question": "How high?",
            "answer_eval": {"wikidata": None, "range": [3, 1]},
        },
    ]
    write_lines(tmp_path / "infoseek_val.jsonl", rows)
    kinds = [{"data_id": "infoseek_val_00000002", "question_type": "String"}]
    write_lines(tmp_path / "infoseek_val_qtype.jsonl", kinds)
    kb = [{"data_id": "infoseek_val_00000000", "entity_id": "Q44440", "entity_text": "Golden Gate Bridge"}]
    write_lines(tmp_path / "infoseek_val_withkb.jsonl", kb)
    write_picture(tmp_path / "oven_images/04/oven_04990048.jpg", 1)
    write_picture(tmp_path / "oven_images/oven_00000002.png", 2)
    write_picture(tmp_path / "oven_images/00/oven_00000003.JPEG", 3)

    asked, questions = opened("infoseek", tmp_path, sample=None)

    number = questions["infoseek_val_00000000"]
    assert number.answers == ("1280.2",)
    assert number.metadata["answer_type"] == "numerical" and number.metadata["answer_range"] == [1152.18, 1408.22]
    assert number.metadata["entity_text"] == "Golden Gate Bridge" and number.image.size == (96, 64)
    time = questions["infoseek_val_00000001"]
    assert time.metadata["answer_type"] == "time" and "27 May 1937" in time.answers
    text = questions["infoseek_val_00000002"]
    assert text.answers == ("Golden Gate", "The Golden Gate") and text.metadata["answer_type"] == "string"
    assert questions["infoseek_val_00000004"].metadata["answer_range"] == [1.0, 3.0]
    assert questions["infoseek_val_00000004"].answers == ("2",)
    assert asked.report.dropped == {"picture file missing": 1} and asked.report.rows == 5
    judge = RuleJudge("official")
    assert judge.verdict(number, "about 1,300").correct and not judge.verdict(number, "1100").correct


def test_encyclopedic_vqa_several_answers_and_pictures(tmp_path: Path) -> None:
    header = "question,answer,dataset_image_ids,dataset_name,question_type,wikipedia_url,encyclopedic_vqa_split\n"
    lines = [
        "How tall is this tree?,20 metres|66 feet,1001|1002,inaturalist,templated,https://en.wikipedia.org/wiki/Oak,test",
        '"Where, in which countries, is it?",Peru && Chile|Chile && Bolivia,abcdef12,landmarks,multi_answer,u,test',
        "Who built this?,Nobody,ffff0000,landmarks,automatic,u,test",
        "What?,,abcdef12,landmarks,automatic,u,test",
    ]
    (tmp_path / "test.csv").write_text(header + "\n".join(lines) + "\n")
    write_json(tmp_path / "inaturalist/val.json", {"images": [{"id": 1002, "file_name": "val/02/tree.jpg"}]})
    write_picture(tmp_path / "inaturalist/val/02/tree.jpg", 1)
    write_picture(tmp_path / "landmarks/a/b/c/abcdef12.jpg", 2)

    asked, questions = opened("evqa", tmp_path)

    tree = questions["evqa-test-000000"]
    assert tree.answers == ("20 metres", "66 feet") and tree.metadata["image_ids"] == ["1001", "1002"]
    several = questions["evqa-test-000001"]
    assert several.answers == ("Peru, Chile", "Chile, Bolivia")
    assert several.metadata["answer_lists"] == [["Peru", "Chile"], ["Chile", "Bolivia"]]
    assert asked.report.dropped == {"picture file missing": 1, "no answer": 1}
    judge = RuleJudge("official")
    # half of what is on either list is enough for its authors
    assert judge.verdict(several, "Bolivia and Chile").correct and judge.verdict(several, "Chile").correct
    assert not judge.verdict(several, "Ecuador, Peru, and Spain").correct


def test_simplevqa_in_english_alone(tmp_path: Path) -> None:
    rows = [
        {"data_id": 7, "language": "EN", "question": "Who?", "answer": "Ada", "image": base64_picture(1)},
        {"data_id": 8, "language": "CN", "question": "谁？", "answer": "阿达", "image": base64_picture(2)},
    ]
    asked, questions = opened("simplevqa", write_lines(tmp_path / "simplevqa.jsonl", rows))
    assert list(questions) == ["simplevqa-7"] and questions["simplevqa-7"].image.size == (96, 64)
    assert asked.report.dropped == {"not in English": 1}


def test_dynvqa_mends_and_counts_what_is_wrong_with_it(tmp_path: Path) -> None:
    url = "https://example.org/pictures/{}.jpg"
    rows = [
        ("en1", ["保时捷 944", "Porsche 944."], "gloden_query", "porsche"),
        ("en2", [["莱昂纳多没有任何孩子"]], "gloden_query", "children"),
        ("en3", None, "gloden_query", float("nan")),
        ("en4", ["1977-08-16", 28353, "16/08/1977"], "golden_query", "died"),
        ("en5", [["none", 0], 735.0], "golden_query", "how many"),
        ("en6", ["Paris"], "golden_query", "city"),
        ("en7", ["Rome"], "golden_query", "town"),
    ]
    lines = [
        {
            "image_url": url.format(name),
            "question": f"What is {name}?",
            "question_id": name,
            "answer": answer,
            key: query,
        }
        for name, answer, key, query in rows
    ]
    write_lines(tmp_path / "DynVQA_en/DynVQA_en.202412.jsonl", lines[:1])
    write_lines(tmp_path / "DynVQA_en/DynVQA_en.202502.jsonl", lines)
    for name in ("en1", "en4"):
        write_picture(tmp_path / "images" / f"{name}.jpg")
    write_picture(tmp_path / "images" / f"{named_by(url.format('en5'))}.png", 3)
    (tmp_path / "images/en6.jpg").write_bytes(picture_bytes(4)[:-200])

    asked, questions = opened("dynvqa", tmp_path)

    assert asked.report.rows == 7, "the newest month is read"
    assert questions["dynvqa-en1"].answers == ("保时捷 944", "Porsche 944.")
    assert questions["dynvqa-en1"].metadata["golden_query"] == "porsche"
    assert questions["dynvqa-en4"].answers == ("1977-08-16", "16/08/1977")
    assert questions["dynvqa-en5"].answers == ("none", "0", "735")
    assert asked.report.dropped == {
        "answers only in Chinese": 1,
        "no answer": 1,
        "picture truncated": 1,
        "picture not downloaded": 1,
    }
    assert asked.report.notes["gloden_query read as golden_query"] == 1
    assert "en2" in asked.report.examples["answers only in Chinese"][0]


def test_okvqa_ten_answers_in_both_formats(tmp_path: Path) -> None:
    ten = ["surfing"] * 6 + ["surf"] * 3 + ["wave riding"]
    asked = {"image_id": 297147, "question": "What sport is this?", "question_id": 2971475}
    answers = [{"answer_id": n, "raw_answer": a, "answer": a, "answer_confidence": "yes"} for n, a in enumerate(ten)]
    write_json(tmp_path / "vqa/OpenEnded_mscoco_val2014_questions.json", {"questions": [asked]})
    annotation = {"image_id": 297147, "question_id": 2971475, "question_type": "six", "answers": answers}
    write_json(tmp_path / "vqa/mscoco_val2014_annotations.json", {"annotations": [annotation]})
    write_picture(tmp_path / "vqa/val2014/COCO_val2014_000000297147.jpg")
    hub = {"question_id": "2971475", "question": "What sport is this?", "answers": ten, "image": picture_bytes()}
    write_table(tmp_path / "hub/data/val2014-00000.parquet", [{**hub, "image": {"bytes": hub["image"], "path": None}}])

    for folder in ("vqa", "hub"):
        _, questions = opened("okvqa", tmp_path / folder)
        question = questions["okvqa-2971475"]
        assert question.answers == ("surfing", "surf", "wave riding"), folder
        assert question.metadata["direct_answers"] == ten
        assert RuleJudge("official").verdict(question, "surf").score == pytest.approx(0.9)
        assert RuleJudge("official").verdict(question, "wave riding").score == pytest.approx(0.3)


def test_aokvqa_lists_and_lists_in_a_text(tmp_path: Path) -> None:
    ten = ["cigarette"] * 8 + ["smoke", "cigar"]
    row = {
        "split": "val",
        "image_id": 461751,
        "question_id": "22jbM6gDxdaMaunuzgrsBB",
        "question": "What is in the motorcyclist's mouth?",
        "choices": ["toothpick", "food", "popsicle stick", "cigarette"],
        "correct_choice_idx": 3,
        "direct_answers": ten,
        "difficult_direct_answer": False,
    }
    write_json(tmp_path / "json/aokvqa_v1p0_val.json", [row])
    hidden = {k: v for k, v in row.items() if k not in ("direct_answers", "correct_choice_idx")}
    write_json(tmp_path / "json/aokvqa_v1p0_test.json", [hidden])
    for split in ("val", "test"):
        write_picture(tmp_path / f"json/{split}2017/000000461751.jpg")
    write_table(
        tmp_path / "hub/val.parquet", [{**row, "direct_answers": str(ten), "image": {"bytes": picture_bytes()}}]
    )

    for folder in ("json", "hub"):
        _, questions = opened("aokvqa", tmp_path / folder)
        question = questions["aokvqa-22jbM6gDxdaMaunuzgrsBB"]
        assert question.answers == ("cigarette", "smoke", "cigar"), folder
        assert question.metadata["direct_answers"] == ten and question.metadata["correct_choice"] == "cigarette"
        _, questions = opened("aokvqa-choices", tmp_path / folder)
        chosen = questions["aokvqa-22jbM6gDxdaMaunuzgrsBB"]
        assert chosen.text.endswith("A. toothpick\nB. food\nC. popsicle stick\nD. cigarette")
        assert chosen.answers == ("D", "cigarette") and RuleJudge("official").verdict(chosen, "D").correct
        # three of ten people are enough, and nothing is made comparable
        scores = [RuleJudge("official").verdict(question, a).score for a in ("cigarette", "smoke", "Cigarette")]
        assert scores == pytest.approx([1, 1 / 3, 0])
    asked, none = opened("aokvqa", tmp_path / "json", split="test")
    assert not none and asked.report.dropped == {"no answer": 1}


def test_fvqa_candidates_as_text_or_list(tmp_path: Path) -> None:
    def row(name: str, candidates: object, images: list[dict[str, object]]) -> dict[str, object]:
        return {
            "data_id": name,
            "prompt": [{"role": "user", "content": "<image>Where is this?"}],
            "images": images,
            "reward_model": {"ground_truth": "Spain", "candidate_answers": candidates, "style": "rule"},
            "data_source": "mmsearch_r1/fvqa",
            "category": "search_required",
        }

    written = write_table(
        tmp_path / "fvqa_train.parquet",
        [
            row("a", '["ES", "\\u00c9spa\\u00f1a"]', [{"bytes": picture_bytes(), "path": None}]),
            row("b", "[]", []),
        ],
    )
    asked, questions = opened("fvqa-train", written)
    assert questions["a"].answers == ("Spain", "ES", "Éspaña") and questions["a"].text == "Where is this?"
    assert questions["a"].metadata["category"] == "search_required"
    assert asked.report.dropped == {"no picture named": 1}


def test_fvqa_real_rows() -> None:
    path = shared("fvqa_mini.parquet")
    if path is None:
        pytest.skip("the real rows are not beside the project")
    asked, questions = opened("fvqa-train", path)
    assert asked.report.loaded == 5 and not asked.report.dropped
    assert all(q.image is not None and min(q.image.size) > 300 for q in questions.values())
    spain = next(q for q in questions.values() if q.answers[0] == "Spain")
    assert "Kingdom of Spain" in spain.answers and "\U0001f1ea\U0001f1f8" in spain.answers


def test_mmsearch_keeps_questions_without_a_picture(tmp_path: Path) -> None:
    common = {"area": "news", "subfield": "tech", "timestamp": "2024-09-29", "gt_requery": "date"}
    rows = [
        {"sample_id": "1", "query": "When is it?", "query_image": None, "gt_answer": "29 May", **common},
        {"sample_id": "2", "query": "Who?", "query_image": {"bytes": picture_bytes()}, "gt_answer": "Ada", **common},
        {"sample_id": "3", "query": "Who?", "query_image": {"bytes": b"no picture"}, "gt_answer": "Ada", **common},
    ]
    for row, other in zip(rows, (["May 29"], [], []), strict=True):
        row["alternative_gt_answers"] = other
    asked, questions = opened("mmsearch", write_table(tmp_path / "end2end.parquet", rows))
    assert questions["mmsearch-1"].image is None and questions["mmsearch-1"].answers == ("29 May", "May 29")
    assert questions["mmsearch-2"].image is not None
    assert asked.report.dropped == {"picture cannot be decoded": 1}


def test_livevqa_in_its_three_formats(tmp_path: Path) -> None:
    level = {
        "question": "Where is this?",
        "question_type": "location",
        "options": ["A. Augusta National", "B. Pebble Beach"],
        "Ground_Truth": "A",
        "Ground_Truth_List": ["Augusta", "Augusta National"],
    }
    second = {**level, "question": "Why?", "Ground_Truth": "B", "Ground_Truth_List": []}
    news = {"id": "0_1", "img_path": "cnn.jpg", "level1_qa": level, "level2_qa": second, "source": "CNN"}
    write_json(tmp_path / "live/News/benchmark.json", [news])
    write_picture(tmp_path / "live/News/News_imgs/cnn.jpg")
    _, questions = opened("livevqa", tmp_path / "live")
    assert questions["livevqa-0_1-1"].answers == ("Augusta", "Augusta National")
    assert questions["livevqa-0_1-2"].answers == ("Pebble Beach",) and questions["livevqa-0_1-2"].text == "Why?"

    preview = {"sample_id": "s1", "query": "Who?", "query_image": "/image/x.png", "gt_answer": "Ada Lovelace"}
    write_json(tmp_path / "preview/qa.json", [preview])
    write_picture(tmp_path / "preview/image/x.png")
    _, questions = opened("livevqa", tmp_path / "preview")
    assert questions["livevqa-s1"].answers == ("Ada Lovelace",) and questions["livevqa-s1"].image is not None

    new = {"id": "9", "level": 1, "img_path": "images/y.jpg", **level}
    write_json(tmp_path / "new/test.json", [new])
    write_picture(tmp_path / "new/images/y.jpg")
    _, questions = opened("livevqa", tmp_path / "new/test.json")
    assert questions["livevqa-9-1"].metadata["topic" if "topic" in new else "level"] == 1


def test_samples_are_the_seeds_and_full_in_spite_of_dead_pictures(tmp_path: Path) -> None:
    rows = [
        {"data_id": n, "language": "EN", "question": f"Who is {n}?", "answer": "A", "image": base64_picture(n)}
        for n in range(40)
    ]
    for row in rows[::4]:
        row["image"] = None
    path = write_lines(tmp_path / "simplevqa.jsonl", rows)

    def ids(seed: int) -> list[str]:
        return [q.id for q in BENCHMARKS.find("simplevqa").open(path, sample=20, seed=seed)]

    assert len(ids(0)) == 20 and ids(0) == ids(0) != ids(1)
    asked = BENCHMARKS.find("simplevqa").open(path, sample=20, seed=0)
    assert len(list(asked)) == 20 and asked.report.rows == 20 + asked.report.dropped["no picture named"]
    assert len(list(BENCHMARKS.find("simplevqa").open(path, sample=39))) == 30, "there are no more than can be loaded"


def test_unknown_names_and_missing_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'infoseek'"):
        open_questions("infoseeks")
    with pytest.raises(UserError, match="not on the Hugging Face Hub"):
        open_questions("infoseek")
    with pytest.raises(UserError, match="no split 'best'"):
        open_questions("okvqa", path=tmp_path, split="best")
    with pytest.raises(UserError, match="There is no file"):
        open_questions("infoseek", path=tmp_path)
    with pytest.raises(UserError, match="no file or folder"):
        open_questions(str(tmp_path / "mine.jsonl"))


def test_a_benchmark_of_another_package_is_one_like_ours_and_scored_its_own_way(tmp_path: Path, offer: Offer) -> None:
    folder = offer(BENCHMARKS.group, rhymes="their_rhymes:RHYMES")
    offer(JUDGES.group, package="their-judge", rhyme="their_rhymes:rhyme")
    (folder / "their_rhymes.py").write_text(
        "from deepmmsearch.data.benchmark import Benchmark, Draft\n"
        "from deepmmsearch.judge import Verdict\n\n"
        "def row(row, number):\n"
        "    return Draft(row['id'], row['word'], row['image'], [row['rhyme']], {'judge': 'rhyme'})\n\n"
        "def rhyme(question, answer):\n"
        "    return Verdict(float(answer[-2:] == question.answers[0][-2:]))\n\n"
        "RHYMES = Benchmark('rhymes', 'Rhymes', row, 'CC0', 'https://rhymes.test', 'nothing', ('test',))\n"
    )
    path = write_lines(
        tmp_path / "rows.jsonl", [{"id": "1", "word": "moon", "rhyme": "spoon", "image": base64_picture()}]
    )
    for name in ("rhymes", "their_rhymes:RHYMES"):
        (question,) = open_questions(name, path=path)
        assert question.metadata["benchmark"] == "rhymes"
        assert RuleJudge("official").verdict(question, "noon").correct
        assert not RuleJudge("official").verdict(question, "sun").correct
    with pytest.raises(UnknownName, match="Unknown judge 'rhyme_'"):
        RuleJudge("official").verdict(replace(question, metadata={"judge": "rhyme_"}), "noon")
    with pytest.raises(UserError, match="their_rhymes:row' is not a Benchmark"):
        open_questions("their_rhymes:row")


def test_the_hub_is_reached_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands for the repository: the library reads both alike, and no network is needed."""
    datasets = pytest.importorskip("datasets")

    from deepmmsearch.data.benchmark import Hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    row = {"question_id": "1", "question": "What?", "answers": ["a", "b"], "image": {"bytes": picture_bytes()}}
    write_table(tmp_path / "repository/data/validation-00000.parquet", [row])
    splits = {"val2014": "validation"}
    local = replace(BENCHMARKS.find("okvqa"), hub=Hub(str(tmp_path / "repository"), splits))
    (question,) = list(local.open())
    assert question.answers == ("a", "b") and question.image is not None
    missing = replace(local, hub=Hub(str(tmp_path / "nothing"), splits))
    with pytest.raises(UserError, match="cannot be loaded from the Hugging Face Hub"):
        missing.open()


def test_the_questions_in_chinese(tmp_path: Path) -> None:
    rows = [
        {"data_id": 7, "language": "EN", "question": "Who?", "answer": "Ada", "image": base64_picture(1)},
        {"data_id": 8, "language": "CN", "question": "谁？", "answer": "阿达", "image": base64_picture(2)},
    ]
    asked, questions = opened("simplevqa-zh", write_lines(tmp_path / "simplevqa.jsonl", rows))
    assert list(questions) == ["simplevqa-8"] and asked.report.dropped == {"not in Chinese": 1}
    lines = [
        {
            "image_url": "https://x.example/1.jpg",
            "question": "他是谁？",
            "question_id": "zh1",
            "answer": ["阿达", "Ada"],
        },
        {"image_url": "https://x.example/2.jpg", "question": "Who?", "question_id": "zh2", "answer": ["Ada"]},
    ]
    write_lines(tmp_path / "dataset/DynVQA_zh/DynVQA_zh.202502.jsonl", lines)
    write_lines(tmp_path / "dataset/DynVQA_en/DynVQA_en.202502.jsonl", [])
    write_picture(tmp_path / "images/zh1.jpg")
    asked, questions = opened("dynvqa-zh", tmp_path)
    assert questions["dynvqa-zh1"].answers == ("阿达", "Ada") and asked.report.dropped == {"not in Chinese": 1}


def test_every_split_that_is_listed_is_one(tmp_path: Path) -> None:
    assert BENCHMARKS.find("dynvqa").splits == ("en",) and BENCHMARKS.find("dynvqa-zh").splits == ("zh",)
    with pytest.raises(UserError, match=r"dynvqa has no split 'zh'. It has: en."):
        BENCHMARKS.find("dynvqa").open(tmp_path, split="zh")


def test_browsecomp_vl_in_its_levels(tmp_path: Path) -> None:
    row = {"question": "Which year?", "answers": ["1843."], "domain": "Other"}
    for level in (1, 2):
        picture = f"browsecomp-vl/images/level{level}/level{level}_1.jpg"
        write_lines(tmp_path / f"bc_vl_level{level}.jsonl", [{**row, "image_path": picture}])
        write_picture(tmp_path / f"images/level{level}/level{level}_1.jpg", level)
    for level in (1, 2):
        for place in (tmp_path, tmp_path / f"bc_vl_level{level}.jsonl"):
            asked, questions = opened("browsecomp-vl", place, split=f"level{level}")
            question = questions[f"browsecomp-vl-level{level}_1"]
            assert question.answers == ("1843.",) and question.image is not None and not asked.report.dropped


def test_vdr_bench_and_hr_mmsearch(tmp_path: Path) -> None:
    row = {"id": "vdr_people_0012", "question": "Who?", "answer": "Ada", "image": base64_picture()}
    path = write_table(tmp_path / "vdr/data/train-00000-of-00001.parquet", [row, {**row, "id": "13"}])
    for name in ("vdr-bench", "vdr-bench-mini"):
        _, questions = opened(name, path.parents[1])
        assert questions["vdr-people_0012"].metadata["category"] == "people" and len(questions) == 2
    write_picture(tmp_path / "hr/images/1.png")
    rows = [
        {"query": "Which <car>?", "query_image": "images/1.png", "ground_truth": ["a", "b"], "category": "Sports"},
        {"query": "Which?", "query_image": "images/2.png", "ground_truth": "c"},
    ]
    asked, questions = opened("hr-mmsearch", write_lines(tmp_path / "hr/data.jsonl", rows))
    assert questions["hr-mmsearch-1"].answers == ("a", "b") and asked.report.dropped == {"picture file missing": 1}


def test_the_one_split_of_a_data_set_is_meant_whatever_it_is_called(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from deepmmsearch.data.tables import hub_rows

    write_table(tmp_path / "one/train-00000-of-00001.parquet", [{"query": "Who?"}])
    assert hub_rows(str(tmp_path / "one"), None, "test")[0] == {"query": "Who?"}
    for split in ("train", "validation"):
        write_table(tmp_path / f"two/{split}-00000-of-00001.parquet", [{"query": split}])
    assert hub_rows(str(tmp_path / "two"), None, "validation")[0] == {"query": "validation"}
    with pytest.raises(UserError, match="cannot be loaded"):
        hub_rows(str(tmp_path / "two"), None, "test")
