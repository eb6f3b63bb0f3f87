"""What is asked of a checkpoint: its parts, its window, and which tokens end a turn or must not be sampled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.renderer import Renderer

Parts = tuple[PreTrainedModel, PreTrainedTokenizerBase, BaseImageProcessor]


class TokenReader:
    """Renders trajectories for a model's tokenizer; no weights are loaded. Raises UserError like `LocalPolicy.load`."""

    def __init__(self, source: str | Path) -> None:
        refuse_missing(str(source))
        try:
            config = AutoConfig.from_pretrained(source)
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"No tokenizer could be loaded from {str(source)!r} ({first_line(error)}).") from None
        self.renderer = Renderer(self.tokenizer, image_token=placeholder(config, self.tokenizer))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text; what is only part of a character shows as such."""
        alone = [self._decode([i]) for i in ids]
        # Word-level tokenizers write blanks between tokens, which no token alone has.
        pairs = [self._decode(pair) for pair in pairwise(ids)]
        after = [p[len(a) :] if p.startswith(a) else b for (a, b), p in zip(pairwise(alone), pairs, strict=True)]
        return [*alone[:1], *after]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))


def load_parts(source: str, dtype: torch.dtype | str) -> Parts:
    refuse_missing(source)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
        # no AutoProcessor: Qwen's asks for a video processor, and that for torchvision
        processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    except ImportError as error:
        raise UserError(f"The model {source!r} needs a package that is not installed: {first_line(error)}") from None
    # transformers raises these for what is missing, damaged, unknown to it, or not a vision-language model
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"No vision-language model could be loaded from {source!r} ({first_line(error)}). Give a checkpoint "
            "folder, or the name of a model on the Hub while there is a network."
        ) from None
    except Exception as error:
        if "safetensors" not in type(error).__module__ and "Safetensor" not in type(error).__name__:
            raise
        raise UserError(f"The weights in {source!r} are damaged ({first_line(error)}). Fetch them again.") from None
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    return model, tokenizer, processor


def refuse_missing(source: str) -> None:
    """Paths are checked here, because transformers takes what is no folder for a name on the Hub."""
    folder = Path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{source!r} is no checkpoint: there is no config.json in it. Give a folder that has one.")
    if not folder.exists() and (source.startswith((".", "/", "~")) or (folder.parent.name and folder.parent.is_dir())):
        beside = [p.name for p in folder.parent.iterdir() if (p / "config.json").is_file()]
        raise UnknownName("model folder", source, [str(folder.parent / name) for name in beside])


def with_adapter(model: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    if not (Path(adapter) / "adapter_config.json").is_file():
        raise UserError(f"{str(adapter)!r} is no adapter: there is no adapter_config.json in it.")
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtra("A LoRA adapter", "train") from None
    merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return merged


def find_device(name: str) -> torch.device:
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UserError(f"The device {name!r} cannot be used ({first_line(error)}). Use auto or cpu.") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_dtype(name: str, device: torch.device) -> torch.dtype | str:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if name not in known:
        raise UnknownName("dtype", name, [*known, "auto"])
    return known[name]


def window(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 32768)
    # tokenizers without a limit say 1e30
    return min(longest, int(tokenizer.model_max_length)) if tokenizer.model_max_length < 1e9 else longest


def placeholder(config: Any, tokenizer: PreTrainedTokenizerBase) -> str | None:
    number = getattr(config, "image_token_id", None)
    return str(tokenizer.convert_ids_to_tokens(number)) if number is not None else None


def end_ids(model: PreTrainedModel, end_of_turn: int) -> frozenset[int]:
    stated = model.generation_config.eos_token_id if model.generation_config else None
    return frozenset([end_of_turn, *(stated if isinstance(stated, list) else [stated] if stated is not None else [])])


def banned_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], image_id: int | None
) -> list[int]:
    """What would break the conversation if it were sampled: placeholders, the start of a turn, padding, and rows of the
    embedding that are no token."""
    config = model.config
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id")
    found = {getattr(config, n, None) for n in names} | {image_id, tokenizer.pad_token_id}
    found |= {tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<start_of_turn>", "<|vision_pad|>")}
    found -= {tokenizer.unk_token_id}
    rows = int(config.get_text_config().vocab_size)
    real = {int(i) for i in found if i is not None and i < rows} - ends
    return sorted(real | set(range(len(tokenizer), rows)))


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
