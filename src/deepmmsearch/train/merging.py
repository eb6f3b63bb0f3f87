"""What was trained as an ordinary checkpoint, which serves like its base."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel

from deepmmsearch.files import replacing
from deepmmsearch.policies.local.adapter import check_adapter, load_adapter
from deepmmsearch.policies.local.checkpoint import Checkpoint, load_checkpoint, load_config, quiet_bars

# what save_pretrained writes anew; every other file of the base is copied as it is
_REWRITTEN = re.compile(r".*\.(safetensors|bin|pt|pth)(\.index\.json)?|(generation_)?config\.json")


def save_merged(checkpoint: Checkpoint, model: PreTrainedModel, folder: Path) -> None:
    """Writes `folder` whole or not at all; a former one is replaced."""
    with replacing(folder) as draft, quiet_bars():
        model.save_pretrained(draft)
        # the base's own configuration: training turned the cache off, and who generates would pay for it
        config = load_config(checkpoint.source)
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


def merge(source: str, adapter: Path, out: Path, dtype: str = "bfloat16") -> None:
    """The model with the adapter in its weights, as a checkpoint that serves like its base; whole or not at all.

    Merged in float32, then saved as `dtype`. Raises UserError for what cannot be loaded or does not fit.
    """
    check_adapter(adapter)
    checkpoint = load_checkpoint(source, torch.float32)
    merged = load_adapter(checkpoint.model, adapter).merge_and_unload()
    save_merged(checkpoint, merged.to(getattr(torch, dtype)), out)
