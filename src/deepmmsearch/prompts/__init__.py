"""The texts a policy reads, as plain files: one folder per set, and the prompts of tools that ask a model.

A set holds `system.md` and `user.md` (with `{question}`), and, where it has them, the state texts that follow an
observation: `after_image.md`, `after_text.md`, `after_malformed.md`, and one named so for any other tool. A dialect
with places of its own may put `head_text.md` and the like before what came back. `{images}` in the user's text says
where the pictures stand. In folders named by ISO 639-1 codes (`de`, `zh`) the same set stands in other languages.

A set in the dialect of another's checkpoint is in our words. What was fetched of theirs (`deepmmsearch dialects fetch`)
lies in the user's folder and stands in its place.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from deepmmsearch.agent.dialect import DEFAULT, DIALECTS, find_dialect
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.prompt_sources import PromptSource
from deepmmsearch.types import Prompt

JUDGE_PROMPTS = ("evaluation", "reward", "mm-vet")
OFFICIAL_PROMPTS = ("extract", "match")
FOLDER = "DEEPMMSEARCH_DIALECTS"
"""The variable that names another folder than the user's own for what was fetched."""
ORIGIN = "origin.json"
AS_PUBLISHED, IN_OUR_WORDS = " (as published)", " (in our words)"
_AFTER, _HEAD = "after_", "head_"


def prompt_names() -> tuple[str, ...]:
    """The sets that come with the package."""
    return tuple(sorted(f.name for f in files(__name__).iterdir() if f.is_dir() and f.joinpath("system.md").is_file()))


def load_prompt(name: str, dialect: str | None = None, language: str | None = None) -> Prompt:
    """The set of that name, or one in a folder of your own (`name` is then its path); in one of its `prompt_languages`,
    or else in the one that it is written in.

    `dialect` defaults to the one the set is named after, else to the paper's. Raises UserError for an unknown set, a
    missing file, or a user text without `{question}`.
    """
    folder = _folder(name)
    if not folder.is_dir():
        raise UnknownName("prompt set", name, prompt_names())
    if (source := source_of(name)) is not None and is_fetched(name, source):
        return _as_published(name, fetched_folder() / name)
    label = folder.name
    folder = folder if language is None else folder.joinpath(language)
    dialect = dialect or (label if label in DIALECTS.names() else DEFAULT)
    find_dialect(dialect)
    user = _read(folder, "user.md")
    if "{question}" not in user:
        raise UserError(f"The prompt file {name}/user.md has no {{question}} in it. Say where the question belongs.")
    after = {key: text.strip() for key, text in _states(folder).items()}
    return Prompt(label, dialect, _read(folder, "system.md"), user, after)


def prompt_languages(name: str) -> tuple[str, ...]:
    """The languages in which a set stands beside its own."""
    folder = _folder(name)
    inner = folder.iterdir() if folder.is_dir() else ()
    return tuple(
        sorted(f.name for f in inner if re.fullmatch("[a-z]{2}", f.name) and f.joinpath("system.md").is_file())
    )


def _folder(name: str) -> Traversable:
    return files(__name__).joinpath(name) if name in prompt_names() else Path(name)


def source_of(name: str) -> PromptSource | None:
    """Where the texts of a dialect's model lie, for the dialect of another's checkpoint."""
    return getattr(find_dialect(name), "source", None) if name in DIALECTS.names() else None


def in_our_words(prompt: Prompt) -> bool:
    """Is it not the text that the model of its dialect was trained with, although there is one?"""
    return source_of(prompt.dialect) is not None and not prompt.name.endswith(AS_PUBLISHED)


def fetched_folder() -> Path:
    """Of the texts that were fetched, beside the user's configuration."""
    if given := os.environ.get(FOLDER):
        return Path(given)
    if config := os.environ.get("DEEPMMSEARCH_CONFIG"):
        return Path(config).parent / "dialects"
    import click

    return Path(click.get_app_dir("deepmmsearch")) / "dialects"


def is_fetched(name: str, source: PromptSource) -> bool:
    """Do the texts of that version lie in the user's folder?"""
    try:
        origin = json.loads((fetched_folder() / name / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(origin, dict) and origin.get("commit") == source.commit


def _as_published(name: str, folder: Path) -> Prompt:
    """To the letter: what stands around a text was there in training, too."""
    try:
        read = {f.name: f.read_text(encoding="utf-8") for f in folder.iterdir() if f.suffix == ".md"}
        user, system = read["user.md"], read.get("system.md", "")
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{folder} does not hold the texts of {name}. Fetch them again: deepmmsearch dialects fetch {name}"
        ) from None
    return Prompt(f"{name}{AS_PUBLISHED}", name, system, user, _states(folder))


def _states(folder: Traversable) -> dict[str, str]:
    """The texts that belong to states, `head_` kept in the name."""
    named = sorted(f.name for f in folder.iterdir() if f.name.startswith((_AFTER, _HEAD)) and f.name.endswith(".md"))
    return {
        name[: -len(".md")].removeprefix(_AFTER): folder.joinpath(name).read_text(encoding="utf-8") for name in named
    }


def grounding_prompt(phrase: str) -> str:
    """The user's text that asks a model for the box of what `phrase` names; the image stands before it."""
    return _read(files(__name__), "grounding.md").replace("{phrase}", " ".join(phrase.split()))


def transcript_prompt() -> str:
    """Asks a model what is written in a picture."""
    return _read(files(__name__), "read-text.md")


def judge_prompt(rules: str) -> str:
    """The text that asks a model whether a candidate is right, with `{question}`, `{references}` and `{candidate}`."""
    return _read(files(__name__), f"judge-{rules}.md")


def official_prompt(name: str, fields: Mapping[str, str] | None = None) -> str:
    """One of OFFICIAL_PROMPTS, with which a benchmark's own scoring asks a model; `fields`: question or options,
    and candidate; None leaves them open."""
    text = _read(files(__name__), f"official-{name}.md")
    # one pass, so that a field's own braces are not filled in turn
    return text if fields is None else re.sub(r"\{(\w+)\}", lambda m: fields[m[1]], text)


def summary_prompt(kind: Literal["text", "image", "page"], fields: Mapping[str, str]) -> str:
    """The text that asks a model for a summary; `fields`: question, query, count, fence, passages."""
    text = _read(files(__name__), f"summarize-{kind}.md")
    # one pass, so that a field's own braces are not filled in turn
    return re.sub(r"\{(\w+)\}", lambda m: fields[m.group(1)], text)


def _read(folder: Traversable, name: str) -> str:
    try:
        return folder.joinpath(name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise UserError(f"The prompt set {folder.name!r} has no file {name}. Add it.") from None
