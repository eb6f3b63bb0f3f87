"""A checkpoint for training: loaded with what it takes to render for it, saved so that it serves like its base."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
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

from deepmmsearch.errors import UserError
from deepmmsearch.files import replacing
from deepmmsearch.images import model_view
from deepmmsearch.renderer import Renderer
from deepmmsearch.train.shards import whole

VISION = re.compile(r"(^|\.)(visual|vision_tower|vision_model)\.")
PROJECTOR = re.compile(r"(^|\.)(merger|deepstack_merger_list|multi_modal_projector)\.")
# what save_pretrained writes anew; every other file of the base is copied as it is
_REWRITTEN = re.compile(r".*\.(safetensors|bin|pt|pth)(\.index\.json)?|(generation_)?config\.json")


@dataclass(frozen=True)
class Checkpoint:
    """`settings` is agent.json, empty where there is none."""

    source: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    image_processor: BaseImageProcessor
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def image_token(self) -> int:
        return int(self.model.config.image_token_id)

    def renderer(self) -> Renderer:
        """Renders for this checkpoint's template; pictures come as its vision tower sees them."""
        least, most = self.pixel_bounds
        multiple = self.image_processor.patch_size * self.image_processor.merge_size
        placeholder = self.tokenizer.convert_ids_to_tokens(self.image_token)
        view = partial(model_view, min_pixels=least, max_pixels=most, multiple=multiple)
        return Renderer(self.tokenizer, image_token=placeholder, view=view)

    @property
    def pixel_bounds(self) -> tuple[int, int]:
        """The least and most pixels of a picture as the model sees it: of agent.json, else of the image processor."""
        size = self.image_processor.size
        return (
            int(self.settings.get("min_pixels", size["shortest_edge"])),
            int(self.settings.get("max_pixels", size["longest_edge"])),
        )


def load_checkpoint(source: str, dtype: torch.dtype) -> Checkpoint:
    """Raises UserError when `source` is neither a checkpoint folder nor a model that is already on this machine or can
    be downloaded, or is not a vision-language model."""
    try:
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
        # no AutoProcessor: Qwen's asks for a video processor, and so for torchvision
        image_processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"No vision-language checkpoint could be loaded from {source!r}: {reason}") from error
    agent = Path(source) / "agent.json"
    settings = json.loads(agent.read_text(encoding="utf-8")) if agent.is_file() else {}
    return Checkpoint(source, model, tokenizer, image_processor, settings)


def save_merged(checkpoint: Checkpoint, model: PreTrainedModel, folder: Path) -> None:
    """Writes `folder` whole or not at all; a former one is replaced."""
    with replacing(folder) as draft:
        model.save_pretrained(draft)
        # the base's own configuration: training turned the cache off, and who generates would pay for it
        config = AutoConfig.from_pretrained(checkpoint.source)
        config.architectures = [type(model).__name__]
        config.dtype = model.dtype
        config.save_pretrained(draft)
        base = Path(checkpoint.source)
        if base.is_dir():
            for path in base.iterdir():
                if path.is_file() and not _REWRITTEN.fullmatch(path.name):
                    shutil.copy2(path, draft / path.name)
        else:
            checkpoint.tokenizer.save_pretrained(draft)
            checkpoint.image_processor.save_pretrained(draft)


def part_of(name: str) -> str:
    """Where a parameter belongs: `projector` (between tower and language model), `vision` or `language`."""
    if PROJECTOR.search(name):
        return "projector"
    return "vision" if VISION.search(name) else "language"


def parameter_hash(model: torch.nn.Module, parts: Iterable[str]) -> str:
    """sha256 over names and values of the parameters of these parts, in order of their names; adapters do not count."""
    wanted = set(parts)
    result = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if "lora_" not in name and part_of(plain) in wanted:
            result.update(plain.encode() + whole(parameter.detach()).float().cpu().numpy().tobytes())
    return result.hexdigest()
