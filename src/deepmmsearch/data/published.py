"""The benchmarks that come with us, and the one way to questions of any: `open_questions`.

All of them, ours included, are found through the entry-point group `deepmmsearch.benchmarks`: name = "module:VALUE".
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deepmmsearch.data import general, knowledge, layouts
from deepmmsearch.data.benchmark import SAMPLE, Benchmark, Hub, QuestionSet
from deepmmsearch.data.own import open_own
from deepmmsearch.errors import UserError
from deepmmsearch.redaction import public_address
from deepmmsearch.registry import ADDRESS, Registry

_LMMS = "the code of lmms-eval that reads it"
_CARD = "its card on the Hub"

INFOSEEK = Benchmark(
    "infoseek",
    "InfoSeek, with OVEN's pictures",
    knowledge.infoseek,
    "Apache-2.0 (questions); pictures of OVEN have licences of their own",
    "https://github.com/open-vision-language/infoseek",
    "the official evaluation script and the read-me of its repository; no row of the files",
    ("val", "train", "test", "human"),
    open_local=layouts.open_infoseek,
    sample=SAMPLE,
)
EVQA = Benchmark(
    "evqa",
    "Encyclopedic-VQA",
    knowledge.encyclopedic_vqa,
    "CC BY 4.0 (questions); pictures of iNaturalist 2021 and Google Landmarks v2 have their own",
    "https://github.com/google-research/google-research/tree/master/encyclopedic_vqa",
    "the read-me of its authors and public code that reads the CSV",
    ("test", "val", "train"),
    open_local=layouts.open_evqa,
    sample=SAMPLE,
)
SIMPLEVQA = Benchmark(
    "simplevqa",
    "SimpleVQA, the questions in English",
    knowledge.simplevqa,
    "see the card; not stated where it was looked up",
    "https://huggingface.co/datasets/m-a-p/SimpleVQA",
    f"{_LMMS} and the card of a copy of it on the Hub",
    ("test",),
    Hub("m-a-p/SimpleVQA", {"test": "test"}),
)
SIMPLEVQA_ZH = replace(
    SIMPLEVQA, name="simplevqa-zh", title="SimpleVQA, the questions in Chinese", convert=knowledge.simplevqa_zh
)
DYNVQA = Benchmark(
    "dynvqa",
    "DynVQA, the questions in English",
    knowledge.dynvqa,
    "not stated by its repository",
    "https://github.com/Alibaba-NLP/OmniSearch",
    "all ten files of its repository (June 2024 to February 2025)",
    ("en",),
    open_local=layouts.open_dynvqa,
)
DYNVQA_ZH = replace(
    DYNVQA,
    name="dynvqa-zh",
    title="DynVQA, the questions in Chinese",
    convert=knowledge.dynvqa_zh,
    splits=("zh",),
)
OKVQA = Benchmark(
    "okvqa",
    "OK-VQA",
    knowledge.okvqa,
    "CC BY 4.0 (annotations of VQA); pictures of COCO have licences of their own",
    "https://okvqa.allenai.org",
    f"{_LMMS}, {_CARD}; the authors' JSON from the format of VQA",
    ("val2014", "train2014"),
    Hub("lmms-lab-encoder/OK-VQA", {"val2014": "val2014", "train2014": "train2014"}),
    layouts.open_vqa,
)
AOKVQA = Benchmark(
    "aokvqa",
    "A-OKVQA",
    knowledge.aokvqa,
    "Apache-2.0 (annotations); pictures of COCO have licences of their own",
    "https://github.com/allenai/aokvqa",
    "the read-me of its authors and public code that quotes a row",
    ("val", "train", "test"),
    Hub("HuggingFaceM4/A-OKVQA", {"val": "validation", "train": "train", "test": "test"}),
    layouts.open_aokvqa,
)
AOKVQA_CHOICES = replace(
    AOKVQA, name="aokvqa-choices", title="A-OKVQA, multiple choice", convert=knowledge.aokvqa_choices
)
FVQA_TRAIN = Benchmark(
    "fvqa-train",
    "FVQA train (MMSearch-R1)",
    knowledge.fvqa,
    "Apache-2.0",
    "https://huggingface.co/datasets/lmms-lab/FVQA",
    "five rows of the public MMSearch-R1 code; `data_id` and `category` from public code that reads them",
    ("train",),
    Hub("lmms-lab/FVQA", {"train": "train"}),
)
FVQA_TEST = Benchmark(
    "fvqa-test",
    "FVQA test (MMSearch-R1)",
    knowledge.fvqa,
    "Apache-2.0",
    "https://huggingface.co/datasets/lmms-lab/FVQA",
    "as fvqa-train",
    ("test",),
    Hub("lmms-lab/FVQA", {"test": "test"}),
)
MMSEARCH = Benchmark(
    "mmsearch",
    "MMSearch, end to end",
    knowledge.mmsearch,
    "see the card; not stated where it was looked up",
    "https://huggingface.co/datasets/CaraJ/MMSearch",
    f"{_LMMS} and the read-me of its authors",
    ("end2end",),
    Hub("CaraJ/MMSearch", {"end2end": "end2end"}, "end2end"),
)
LIVEVQA = Benchmark(
    "livevqa",
    "LiveVQA",
    knowledge.livevqa,
    "see the card; not stated where it was looked up",
    "https://github.com/fumingyang2004/LIVEVQA",
    "the files of its repository; `qa.json` of the Research Preview from public code that reads it",
    ("test",),
    open_local=layouts.open_livevqa,
    prepare=layouts.flat_livevqa,
)
OCRBENCH = Benchmark(
    "ocrbench",
    "OCRBench",
    general.ocrbench,
    "MIT (code); the pictures come from many data sets",
    "https://huggingface.co/datasets/echo840/OCRBench",
    f"{_LMMS}, {_CARD}; all rows of the authors' OCRBench.json",
    ("test",),
    Hub("echo840/OCRBench", {"test": "test"}),
    general=True,
)
MMVET = Benchmark(
    "mmvet",
    "MM-Vet",
    general.mmvet,
    "CC BY-NC 4.0",
    "https://github.com/yuweihao/MM-Vet",
    f"{_LMMS} and examples of its authors",
    ("test",),
    Hub("lmms-lab-encoder/MMVet", {"test": "test"}),
    general=True,
)
AI2D = Benchmark(
    "ai2d",
    "AI2D",
    general.ai2d,
    "CC BY-SA 4.0",
    "https://huggingface.co/datasets/lmms-lab-encoder/ai2d",
    _LMMS,
    ("test",),
    Hub("lmms-lab-encoder/ai2d", {"test": "test"}),
    general=True,
)
MATHVISTA = Benchmark(
    "mathvista",
    "MathVista, testmini",
    general.mathvista,
    "CC BY-SA 4.0",
    "https://huggingface.co/datasets/AI4Math/MathVista",
    _LMMS,
    ("testmini",),
    Hub("AI4Math/MathVista", {"testmini": "testmini"}),
    general=True,
)
MMBENCH = Benchmark(
    "mmbench",
    "MMBench, English, dev",
    general.mmbench,
    "Apache-2.0",
    "https://github.com/open-compass/MMBench",
    f"{_LMMS}; the authors' TSV not seen",
    ("dev",),
    Hub("lmms-lab-encoder/MMBench", {"dev": "dev"}, "en"),
    layouts.open_mmbench,
    general=True,
)
DOCVQA = Benchmark(
    "docvqa",
    "DocVQA, validation",
    general.docvqa,
    "research use; see the site",
    "https://www.docvqa.org",
    f"{_LMMS}; the authors' JSON not seen",
    ("val",),
    Hub("lmms-lab-encoder/DocVQA", {"val": "validation"}, "DocVQA"),
    general=True,
)
INFOVQA = Benchmark(
    "infovqa",
    "InfographicVQA, validation",
    general.infovqa,
    "research use; see the site",
    "https://www.docvqa.org",
    f"{_LMMS}; the authors' JSON not seen",
    ("val",),
    Hub("lmms-lab-encoder/DocVQA", {"val": "validation"}, "InfographicVQA"),
    general=True,
)

BENCHMARKS = Registry[Benchmark](
    "deepmmsearch.benchmarks", "benchmark", Benchmark, "a Benchmark; docs/extending.md shows one"
)


def open_questions(
    name: str,
    *,
    path: Path | None = None,
    images: Path | None = None,
    split: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> QuestionSet:
    """The questions of a benchmark (its name, or `module:VALUE`), or of a file or folder of the user's own (its path).

    `path`: local files of the benchmark, instead of the Hub. `sample`: how many are drawn with `seed`, 0 for all;
    None draws as many as the paper did (2,000 of InfoSeek and Encyclopedic-VQA, else all). `limit`: of those the first.
    Raises UnknownName, UserError.
    """
    benchmark = find_benchmark(name)
    if benchmark is not None:
        wanted = benchmark.sample if sample is None else sample or None
        return benchmark.open(path, images=images, split=split, sample=wanted, seed=seed, limit=limit)
    if split is not None or path is not None:
        raise UserError(f"{name} is a file of your own: it has neither --split nor --path. Leave them out.")
    return open_own(Path(name), images, sample or None, seed, limit)


def find_benchmark(name: str) -> Benchmark | None:
    """None where the name is that of a file or folder of the user's own. Raises UnknownName, UserError."""
    own = Path(name)
    if name not in BENCHMARKS.names():
        if own.exists():
            return None
        if ADDRESS.match(name):
            raise UserError(
                f"{public_address(name)} is an address that questions are not read from. Download the file and give "
                "its path, or give an address in object storage, such as s3://bucket/questions.parquet."
            )
        if ":" not in name and (own.suffix or len(own.parts) > 1):
            raise UserError(f"There is no file or folder {own}. Known benchmarks: {', '.join(BENCHMARKS.names())}.")
    return BENCHMARKS.find(name, code=True)
