"""Checkpoints: the only code that loads a model, a tokenizer, an image processor or a card (adapters: `adapter`).

Whatever a user can get wrong here (a path, a download that was cut off, a damaged file, a model of another kind) is
told in one sentence. Code that a checkpoint brings along is never run, and pictures are processed by Pillow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.notation import parse_json
from deepmmsearch.policies.agent_card import AgentCard, read_card
from deepmmsearch.policies.local.families import Family, find_family
from deepmmsearch.policies.local.template import template_of
from deepmmsearch.renderer import Renderer

WANTED = "vision-language model"
# stated everywhere: a checkpoint may name code of its own, and nobody is asked whether to run it
NO_CODE = {"trust_remote_code": False}


@dataclass(frozen=True)
class CheckpointParts:
    """All of a checkpoint but its weights."""

    source: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    image_processor: BaseImageProcessor
    card: AgentCard
    family: Family

    def renderer(self) -> Renderer:
        """Renders for this checkpoint's template; pictures come as its vision tower sees them. Raises UserError for a
        template that cannot be used."""
        template = template_of(self.tokenizer)
        return Renderer(self.tokenizer, image_token=self.family.image_token, view=self.family.view, template=template)


@dataclass(frozen=True)
class Checkpoint(CheckpointParts):
    """A vision-language model with all that belongs to it."""

    model: PreTrainedModel


def load_checkpoint(source: str | Path, dtype: torch.dtype | str) -> Checkpoint:
    """A checkpoint folder, or the name of a model on the Hub. `dtype` auto is the checkpoint's own.

    Raises UserError when there is no such model, it is not a vision-language model, a file of it is damaged or
    missing, or its card cannot be used.
    """
    parts = read_parts(source)
    with _loading(WANTED, parts.source):
        model, found = AutoModelForImageTextToText.from_pretrained(
            parts.source, dtype=dtype, output_loading_info=True, **NO_CODE
        )
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"The weights in {parts.source!r} are incomplete: {len(missing)} tensors are missing, the first is "
            f"{missing[0]}. Fetch them again."
        )
    return Checkpoint(**vars(parts), model=model)


def read_parts(source: str | Path) -> CheckpointParts:
    """Everything but the weights, of which only the completeness of the files is checked.

    Raises UserError as `load_checkpoint` does, in a fraction of its time.
    """
    name = str(source)
    refuse_missing(name)
    card = read_card(name)
    config, tokenizer = load_tokenizer(name, WANTED)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UserError(
            f"{name!r} is a {config.model_type} model, but a vision-language model is expected. Give one that reads "
            "pictures and writes text."
        )
    if Path(name).is_dir():
        _check_weights(Path(name))
    processor = load_image_processor(name)
    return CheckpointParts(name, config, tokenizer, processor, card, find_family(config, tokenizer, processor, card))


def load_config(source: str, what: str = "model") -> PreTrainedConfig:
    """`what` it is called in errors. Raises UserError for what is missing, damaged, unknown, or brings its own code."""
    refuse_missing(source)
    with _loading(what, source):
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, **NO_CODE)
    return config


def load_tokenizer(source: str, what: str = "model") -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    """The model's configuration and its tokenizer. Raises UserError."""
    config = load_config(source, what)
    with _loading("tokenizer", source):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **NO_CODE)
        if tokenizer.chat_template is None:
            # where models of before 2025 keep it, and only their processor looks
            legacy = cached_file(source, "chat_template.json", _raise_exceptions_for_missing_entries=False)
            if legacy is not None:
                tokenizer.chat_template = read_object(Path(legacy))["chat_template"]
    return config, tokenizer


def load_image_processor(source: str) -> BaseImageProcessor:
    """Through Pillow, also where torchvision is installed: it would resize in another way. Raises UserError."""
    with _loading("image processor", source):
        # no AutoProcessor: Qwen's asks for a video processor, and that for torchvision
        processor: BaseImageProcessor = AutoImageProcessor.from_pretrained(source, backend="pil", **NO_CODE)
    return processor


def load_model(kind: type[Any], what: str, source: str) -> Any:
    """A model of one of transformers' `Auto` classes; `what` it is called in errors. Raises UserError."""
    refuse_missing(source)
    with _loading(what, source):
        return kind.from_pretrained(source, **NO_CODE)


def refuse_missing(source: str) -> None:
    """Paths are checked here, because transformers takes what is no folder for a name on the Hub."""
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{source!r} is not a checkpoint: there is no config.json in it. Give a folder that has one."
            )
        read_object(folder / "config.json")
    elif folder.exists():
        raise UserError(f"{source!r} is a file, but a checkpoint is a folder. Give the folder that holds config.json.")
    elif source.startswith((".", "/", "~")) or source.count("/") > 1 or (folder.parent.name and folder.parent.is_dir()):
        known = folder.parent.iterdir() if folder.parent.is_dir() else ()
        beside = [p.name for p in known if (p / "config.json").is_file()]
        raise UnknownName("model folder", source, [str(folder.parent / name) for name in beside])


def _check_weights(folder: Path) -> None:
    """Each file says in its first bytes how long it is, so what was cut off is found before hours of other work."""
    names: set[str]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed = read_object(index).get("weight_map")
        named: list[Any] = list(listed.values()) if isinstance(listed, dict) else [None]
        if not all(isinstance(name, str) and not {"/", ".."} & set(Path(name).parts) for name in named):
            raise UserError(f"{index} names no files of its folder as weights. Fetch it again.")
        names = set(named)
    else:
        names = {path.name for path in folder.glob("*.safetensors")}
    if not names and not any(folder.glob("*.bin")):
        raise UserError(f"There are no weights in {str(folder)!r}. Fetch the checkpoint again.")
    for name in sorted(names):
        tensor_names(folder / name)


def tensor_names(path: Path) -> set[str]:
    """The names of a file's tensors. Raises UserError where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"The weights in {path} are missing or damaged ({first_line(error)}). Fetch them again."
        ) from None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}). Fetch it again.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a JSON object. Fetch it again.")
    return values


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Without transformers' progress bars, which tell of seconds."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _loading(what: str, source: str) -> Iterator[None]:
    """Around transformers' own loading, a border: a damaged checkpoint makes it raise almost anything."""
    try:
        with quiet_bars():
            yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(f"There is not enough memory to load the {what} {source!r}. Give a smaller one.") from error
    except ImportError as error:
        raise UserError(
            f"The {what} {source!r} needs a package that is not installed ({first_line(error)}). Install it."
        ) from error
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise UserError(
                f"The {what} {source!r} wants code of its own to be run (auto_map in its configuration), which is "
                "never done here. Give a model that transformers itself knows."
            ) from None
        raise UserError(
            f"No {what} could be loaded from {source!r} ({first_line(error)}). Give a checkpoint folder, or the name "
            "of a model on the Hub while there is a network."
        ) from error


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
