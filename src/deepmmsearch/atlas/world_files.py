"""An atlas as ordinary files: websites that are indexed like any user's folder, and questions that are not.

FOLDER/sites/<site>/*.html     pages, their pictures beside them
FOLDER/questions.jsonl         id, question, image, answers, metadata; one question a line
FOLDER/images/*.jpg            the questions' scenes
FOLDER/atlas.json              how it was made
FOLDER/README.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo

from deepmmsearch import images
from deepmmsearch.atlas import velic
from deepmmsearch.atlas.pages import SitePage, make_pages
from deepmmsearch.atlas.world import USUAL, Kinds, Variant, World
from deepmmsearch.errors import UserError
from deepmmsearch.filenames import unfit_name
from deepmmsearch.files import lies_in, replacing
from deepmmsearch.notation import parse_json
from deepmmsearch.outputs import differences
from deepmmsearch.types import Question

VERSION = 1
MARK = "atlas.json"
QUESTIONS = "questions.jsonl"
_VARIANTS = ("language", "asked_in", "kinds")
# a code that ISO 639 leaves to private use
_CODES = {"english": "en", "velic": "qaa"}
_COUNTED = {"papers": "seven", "tools": "eight"}
_COMMENT = "A picture of an invented world, made by deepmmsearch"

_PAGE = """\
<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="canonical" href="{url}">
</head>
<body>
<header><h1>{title}</h1></header>
<nav>{links}</nav>
<main>
<article>
{article}
</article>
</main>
<footer><p>{footer}</p></footer>
</body>
</html>
"""

_FOOTER = "{site}, one of the {count} sites of an invented world. Terms of use. Contact."

_README = """\
# An invented world: {split}, seed {seed}

{pages} pages on {sites} small websites (`sites/`), {questions} questions about pictures (`questions.jsonl`, `images/`).
All of it is invented and made from the seed; the same command makes the same files.

    deepmmsearch atlas make {name} --seed {seed} --split {split} --countries {countries} --famous {famous} \\
        --questions {questions}{options}
    deepmmsearch index build {name}/sites --titles apart --out {name}-index
    deepmmsearch atlas play {name} --index {name}-index --out {name}-trajectories

Some pages are stale (`old-almanac`) or gossip (`chatter`): they are wrong on purpose.
"""


def write_atlas(
    world: World, folder: Path, questions: Iterable[Question] = (), search_share: float | None = None
) -> None:
    """Writes pages, pictures and questions; `folder` appears at once and whole, or not at all. `search_share` is what
    the questions were made with.

    Raises UserError when `folder` is not new or empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty. Give a new folder for the atlas.")
    # where the folder is a link, what it leads to
    with replacing(folder.resolve()) as draft:
        draft.mkdir()
        pages = make_pages(world)
        _write_sites(pages, draft / "sites", world.variant)
        count = _write_questions(questions, draft)
        known = {"version": VERSION, **_made_with(world, count, search_share), "pages": len(pages)}
        sites, options = _COUNTED[world.variant.kinds], "".join(map(_option, world.variant.told.items()))
        readme = _README.format(name=folder.name, sites=sites, options=options, **known)
        (draft / "README.md").write_text(readme, encoding="utf-8")
        (draft / MARK).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def holds_atlas(folder: Path, world: World, questions: int, search_share: float | None = None) -> bool:
    """Is the atlas of this world with so many questions there? Raises UserError for a folder with anything else."""
    if not (folder / MARK).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is not empty and not an atlas (no {MARK}). Give a new folder.")
        return False
    wanted = _made_with(world, questions, search_share)
    try:
        found = parse_json((folder / MARK).read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{folder / MARK} was not written by an atlas. Give a new folder.")
    wanted = dict.fromkeys(_VARIANTS) | wanted
    if changed := differences({name: found.get(name) for name in wanted}, wanted):
        raise UserError(f"{folder} is another atlas ({'; '.join(changed)}). Give a new folder, or remove it.")
    return True


def _made_with(world: World, questions: int, search_share: float | None) -> dict[str, Any]:
    return {
        "seed": world.seed,
        "split": world.split,
        "countries": sum(not c.famous for c in world.of("country")),
        "famous": sum(c.famous for c in world.of("country")),
        "questions": questions,
        "search_share": search_share,
        **world.variant.told,
    }


def _option(told: tuple[str, str]) -> str:
    return f" --{told[0].replace('_', '-')} {told[1]}"


def kinds_of(folder: Path) -> Kinds:
    """Of the questions of an atlas."""
    try:
        told = parse_json((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "papers"
    return "tools" if isinstance(told, dict) and told.get("kinds") == "tools" else "papers"


def load_questions(folder: Path) -> list[Question]:
    """All questions with their images in memory, about 1 MB each; `read_questions` keeps one at a time."""
    return list(read_questions(folder))


def read_questions(folder: Path) -> Iterator[Question]:
    """The questions in order, each image read when its question is asked for. Raises UserError on a damaged atlas."""
    path = _questions_file(folder)
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield read_question(path.parent, line)
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise UserError(f"{path}, line {number} cannot be read as a question: {error}") from None


def count_questions(folder: Path) -> int:
    """How many questions an atlas has. Raises UserError when it is none."""
    with _questions_file(folder).open(encoding="utf-8") as lines:
        return sum(1 for _ in lines)


def _questions_file(folder: Path) -> Path:
    path = Path(folder) / QUESTIONS
    if not path.is_file():
        raise UserError(
            f"{folder} is not an atlas: it has no {QUESTIONS}. Make one with: deepmmsearch atlas make {folder} --seed 1"
        )
    return path


def read_question(folder: Path, line: str) -> Question:
    """The question in one line of an atlas's questions, with its picture, which lies in the atlas. Raises ValueError,
    KeyError, TypeError, UserError."""
    row: dict[str, Any] = parse_json(line)
    image = None
    if row.get("image"):
        path = folder / row["image"]
        if path.exists() and not lies_in(path, folder):
            raise ValueError(f"its picture {row['image']!r} lies outside of the atlas")
        image = images.load(path)
    return Question(row["id"], row["question"], (image,) if image else (), tuple(row["answers"]), row["metadata"])


def render_page(
    page: SitePage, before: SitePage | None = None, after: SitePage | None = None, variant: Variant = USUAL
) -> str:
    """The page as HTML; `before` and `after` are its neighbours on the site."""
    parts = [f"<p>{escape(text)}</p>" for text in page.paragraphs]
    if page.link is not None:
        words, slug = map(escape, page.link)
        parts = [part.replace(words, f'<a href="{slug}.html">{words}</a>') for part in parts]
    if page.picture is not None:
        figure = f'<figure><img src="{escape(page.picture.file)}" alt="{escape(page.picture.alt)}"></figure>'
        parts.insert(-1, figure)
    links = " ".join(f'<a href="{escape(p.slug)}.html">{escape(p.title)}</a>' for p in (before, after) if p)
    footer = velic.say(variant.language, _FOOTER.format(site=page.site, count=_COUNTED[variant.kinds]))
    return _PAGE.format(
        language=_CODES[variant.language],
        title=escape(page.title),
        url=escape(page.url),
        links=links,
        article="\n".join(parts),
        footer=escape(footer),
    )


def _write_sites(pages: list[SitePage], root: Path, variant: Variant) -> None:
    for site in dict.fromkeys(page.site for page in pages):
        own: list[SitePage | None] = [None, *(page for page in pages if page.site == site), None]
        folder = root / site
        folder.mkdir(parents=True)
        for (before, page), (_, after) in pairwise(pairwise(own)):
            assert page is not None
            (folder / f"{page.slug}.html").write_text(render_page(page, before, after, variant), encoding="utf-8")
            if page.picture is not None:
                _save(page.picture.draw(), folder / page.picture.file)


def _write_questions(questions: Iterable[Question], folder: Path) -> int:
    (folder / "images").mkdir()
    count = 0
    with (folder / QUESTIONS).open("w", encoding="utf-8") as lines:
        for question in questions:
            image = None
            if question.image is not None:
                if why := unfit_name(question.id):
                    raise UserError(f"The question {question.id[:80]!r} {why}, and its picture needs a file's name.")
                image = f"images/{question.id}.jpg"
                _save(question.image, folder / image)
            row = {"id": question.id, "question": question.text, "image": image, "answers": list(question.answers)}
            lines.write(json.dumps({**row, "metadata": dict(question.metadata)}, ensure_ascii=False) + "\n")
            count += 1
    return count


def _save(image: Image, path: Path) -> None:
    """With a comment in the file that tells where the picture is from."""
    if path.suffix == ".png":
        comment = PngInfo()
        comment.add_text("Comment", _COMMENT)
        image.save(path, pnginfo=comment)
    else:
        image.save(path, quality=90, comment=_COMMENT)


def is_atlas_picture(path: Path) -> bool:
    """Was this file written as a picture of an atlas? Not known of copies that lost their comment."""
    try:
        with path.open("rb") as file:
            return _COMMENT.encode() in file.read(1024)
    except OSError:
        return False
