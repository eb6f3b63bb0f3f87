"""Benchmarks for agents that browse: a row of each as a question. docs/data.md says where each format was looked up.

Three of them are published encrypted. Their texts are decrypted here and nowhere else; `sealing` says what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from deepmmsearch.data.answers import flatten
from deepmmsearch.data.benchmark import Benchmark, Draft, Hub
from deepmmsearch.data.columns import picture_columns, plain_names
from deepmmsearch.data.layouts import open_browsing
from deepmmsearch.data.load_report import Skip
from deepmmsearch.data.tables import Row
from deepmmsearch.sealing import decrypt

MMSEARCH_PLUS_KEY = "MMSearch-Plus"


def mmsearch_plus(row: Row, number: int) -> Draft:
    """MMSearch-Plus (arXiv 2508.21475): question and answers are encrypted, pictures `img_1` to `img_5` are not."""
    opened = _opened(row, MMSEARCH_PLUS_KEY, "question", "answer")
    return _draft(f"mmsearch-plus-{row.get('id') or number + 1}", row, opened, "category", "subtask", "difficulty")


def visbrowse(row: Row, number: int) -> Draft:
    """VisBrowse-Bench (arXiv 2603.16289): question and answers are encrypted with the row's `canary`."""
    opened = _opened(row, str(row["canary"]), "question", "answer")
    return _draft(f"visbrowse-{row.get('id') or number + 1}", row, opened, "domain", "sub_domain")


def mm_browsecomp(row: Row, number: int) -> Draft:
    """MM-BrowseComp (arXiv 2508.13186): question, answer and checklist are encrypted with the row's `canary`. The
    checklist says what must be found on the way."""
    opened = _opened(row, str(row["canary"]), "question", "answer", "checklist")
    draft = _draft(f"mm-browsecomp-{row.get('id') or number + 1}", row, opened, "category", "subtask", "level")
    told = {**draft.metadata, "checklist": flatten(opened["checklist"])}
    return replace(draft, metadata=told, needs_picture=False)


def browsecomp_vl(row: Row, number: int) -> Draft:
    """BrowseComp-VL (arXiv 2508.05748), of one level. Rows have no id; their pictures are numbered."""
    picture = str(row["image_path"])
    name = picture.replace("\\", "/").rpartition("/")[2].partition(".")[0]
    return Draft(f"browsecomp-vl-{name}", str(row["question"]), picture, flatten(row["answers"]), _some(row, "domain"))


def hr_mmsearch(row: Row, number: int) -> Draft:
    """HR-MMSearch (arXiv 2512.24330): `query`, `query_image`, `ground_truth`."""
    found = {"question": row["query"], "answer": row["ground_truth"]}
    return _draft(f"hr-mmsearch-{row.get('id') or number + 1}", row, found, "category", "domain", "subfield", "area")


def vdr_bench(row: Row, number: int) -> Draft:
    """VDR-Bench (arXiv 2602.02185): the picture is base64 or bytes, the category stands in the id."""
    name = str(row.get("id") or f"{number + 1:04d}")
    parts = name.split("_")
    told = {"category": parts[1]} if len(parts) > 2 else {}
    draft = _draft(f"vdr-{name.removeprefix('vdr_')}", row, row, "category")
    return replace(draft, metadata={**told, **draft.metadata})


def _draft(name: str, row: Row, found: Mapping[str, Any], *told: str) -> Draft:
    pictures = picture_columns(plain_names(row))[0]
    return Draft(name, str(found["question"]), pictures, flatten(found["answer"]), _some(row, *told))


def _some(row: Row, *told: str) -> dict[str, Any]:
    return {"answer_type": "string", **{key: row[key] for key in told if row.get(key) not in (None, "", [])}}


def _opened(row: Row, passphrase: str, *names: str) -> dict[str, Any]:
    """The texts of these columns, lists of them included. Raises Skip where the passphrase does not open them."""

    def opened(value: Any) -> Any:
        if isinstance(value, list):
            return [opened(each) for each in value]
        return decrypt(value, passphrase) if isinstance(value, str) and value else value

    try:
        return {name: opened(row.get(name)) for name in names}
    except ValueError:
        raise Skip("not encrypted as it is published") from None


MMSEARCH_PLUS = Benchmark(
    "mmsearch-plus",
    "MMSearch-Plus",
    mmsearch_plus,
    "see its card",
    "https://huggingface.co/datasets/Cie1/MMSearch-Plus",
    "its task in lmms-eval and the public code that decrypts it; no row seen",
    ("train",),
    Hub("Cie1/MMSearch-Plus", {"train": "train"}),
    encrypted=True,
)
VISBROWSE = Benchmark(
    "visbrowse",
    "VisBrowse-Bench",
    visbrowse,
    "Apache-2.0",
    "https://github.com/ZhengboZhang/VisBrowse-Bench",
    "the file of its repository: all 169 rows decrypt",
    ("test",),
    open_local=partial(open_browsing, table="VisBrowse-Bench.jsonl", pictures="VisBrowse_Bench_images"),
    encrypted=True,
)
MM_BROWSECOMP = Benchmark(
    "mm-browsecomp",
    "MM-BrowseComp",
    mm_browsecomp,
    "MIT",
    "https://github.com/MMBrowseComp/MM-BrowseComp",
    "the file of its repository: all 224 rows decrypt",
    ("test",),
    open_local=partial(open_browsing, table="MMBrowseComp.jsonl", pictures="MMBC_images"),
    encrypted=True,
)
BROWSECOMP_VL = Benchmark(
    "browsecomp-vl",
    "BrowseComp-VL",
    browsecomp_vl,
    "Apache-2.0 (its repository)",
    "https://github.com/Alibaba-NLP/DeepResearch/tree/main/WebAgent/WebWatcher/browsecomp-vl",
    "both files of its repository, 199 and 200 rows; pictures not seen",
    ("level1", "level2"),
    open_local=partial(open_browsing, table="bc_vl_{split}.jsonl", pictures="images"),
)
HR_MMSEARCH = Benchmark(
    "hr-mmsearch",
    "HR-MMSearch",
    hr_mmsearch,
    "see its card",
    "https://huggingface.co/datasets/sensenova/HR-MMSearch",
    "public code that reads it; no row seen",
    ("test",),
    Hub("sensenova/HR-MMSearch", {"test": "test"}),
)
VDR_BENCH = Benchmark(
    "vdr-bench",
    "VDR-Bench",
    vdr_bench,
    "see its card",
    "https://huggingface.co/datasets/Osilly/VDR-Bench",
    "public code that reads it; no row seen",
    ("train",),
    Hub("Osilly/VDR-Bench", {"train": "train"}),
)
VDR_BENCH_MINI = replace(
    VDR_BENCH,
    name="vdr-bench-mini",
    title="VDR-Bench, testmini",
    source="https://huggingface.co/datasets/Osilly/VDR-Bench-testmini",
    hub=Hub("Osilly/VDR-Bench-testmini", {"train": "train"}),
)
