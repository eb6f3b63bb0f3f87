"""Grounding DINO and MM-Grounding-DINO through transformers' zero-shot object detection (arXiv 2303.05499, 2401.02361).

The paper grounds with it (DeepMMSearch-R1, section 3.1). It scores every box by the word of the text that fits it best.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import AutoModelForZeroShotObjectDetection
from transformers.models.grounding_dino.processing_grounding_dino import GroundingDinoProcessor

from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.images import clamp
from deepmmsearch.policies.local.checkpoint import first_line, load_image_processor, load_model, load_tokenizer
from deepmmsearch.policies.local.device import find_device
from deepmmsearch.types import Box

DEFAULT_MODEL = "IDEA-Research/grounding-dino-tiny"
BOX_THRESHOLD = 0.3
TEXT_THRESHOLD = 0.25
# Weaker boxes are still reported, so that what falls below the threshold can be told from nothing found.
WEAKEST = 0.05
MOST_BOXES = 32
MAX_BATCH = 8
_TYPES = ("grounding-dino", "mm-grounding-dino")


def caption(phrase: str) -> str:
    """The phrase as the detector wants it: lower case, one full stop, at its end. A stop or a question mark within
    would part it into several things to look for."""
    words = " ".join(phrase.lower().translate({ord("."): " ", ord("?"): " "}).split())
    return f"{words}." if words else ""


@dataclass(frozen=True)
class _Request:
    image: Image
    text: str
    found: Future[list[Box]]


class DinoGrounder:
    """Grounder: a detector in this process, in a thread of its own; pictures of one size that wait go together.

    `source`: a checkpoint folder or a name on the Hub. `text_threshold`: the score from which a word counts into a
    box's label. Raises UserError for what cannot be loaded or is not a (MM-)Grounding-DINO.
    """

    def __init__(
        self, source: str | Path = DEFAULT_MODEL, *, text_threshold: float = TEXT_THRESHOLD, device: str = "auto"
    ) -> None:
        self.name = f"dino:{source}"
        self._text_threshold = text_threshold
        self._device = find_device(device)
        model, self._processor = _load(str(source))
        self._model = model.to(self._device).eval()
        self._waiting: list[_Request] = []
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "grounding-dino")

    async def locate(self, image: Image, phrase: str) -> list[Box]:
        text = caption(phrase)
        if not text:
            return []
        request = _Request(image.convert("RGB"), text, Future())
        with self._lock:
            self._waiting.append(request)
        self._thread.submit(self._work)
        return await asyncio.wrap_future(request.found)

    def _work(self) -> None:
        """One batch of what waits; nothing where an earlier call took it along."""
        with self._lock:
            size = self._waiting[0].image.size if self._waiting else None
            # Only pictures of one size: padding a smaller one would change what is found in it.
            batch = [r for r in self._waiting if r.image.size == size][:MAX_BATCH]
            chosen = {id(r) for r in batch}
            self._waiting = [r for r in self._waiting if id(r) not in chosen]
        batch = [r for r in batch if r.found.set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            results = self._detect([r.image for r in batch], [r.text for r in batch])
        # Whatever a picture or the device trips over must not leave an episode waiting.
        except Exception as error:
            for request in batch:
                request.found.set_exception(
                    ToolError(f"The detector failed ({type(error).__name__}: {first_line(error)}).")
                )
        else:
            for request, boxes in zip(batch, results, strict=True):
                request.found.set_result(boxes)

    def _detect(self, images: list[Image], texts: list[str]) -> list[list[Box]]:
        inputs = self._processor(
            images=images,
            text=texts,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self._model.config.max_text_len,
        ).to(self._device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        found = self._processor.post_process_grounded_object_detection(
            outputs,
            inputs["input_ids"],
            threshold=WEAKEST,
            text_threshold=self._text_threshold,
            target_sizes=[(image.height, image.width) for image in images],
        )
        return [_boxes(one, image.size) for one, image in zip(found, images, strict=True)]


def _boxes(found: dict[str, Any], size: tuple[int, int]) -> list[Box]:
    """Best first, within the picture, at most MOST_BOXES."""
    rows = zip(found["boxes"].tolist(), found["scores"].tolist(), found["text_labels"], strict=True)
    boxes = [clamp(Box(x0, y0, x1, y1, score, _words(label)), size) for (x0, y0, x1, y1), score, label in rows]
    return sorted((b for b in boxes if b.area > 0), key=lambda b: -b.score)[:MOST_BOXES]


def _words(label: str) -> str:
    """The label without the tokens that stand around the phrase."""
    return " ".join(w for w in label.replace(".", " ").split() if not (w.startswith("[") and w.endswith("]")))


def _load(source: str) -> tuple[Any, GroundingDinoProcessor]:
    config, tokenizer = load_tokenizer(source)
    if config.model_type not in _TYPES:
        raise UserError(f"{source!r} is a {config.model_type}, not a Grounding DINO. Give one such as {DEFAULT_MODEL}.")
    model = load_model(AutoModelForZeroShotObjectDetection, "Grounding DINO", source)
    return model, GroundingDinoProcessor(load_image_processor(source), tokenizer)
