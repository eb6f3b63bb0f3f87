"""What the model sees of a picture: resized once, encoded once."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedModel

from deepmmsearch import images
from deepmmsearch.policies.card import AgentCard

FEATURE_BYTES = 256 * 2**20


@dataclass
class Features:
    """A picture as the language model reads it. `grid` is [1, 3] (time, rows, columns) or None; `deep` are the further
    layers of Qwen3-VL; `digest` names the picture."""

    tokens: Tensor
    deep: tuple[Tensor, ...]
    grid: Tensor | None
    digest: str

    @property
    def count(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.tokens, *self.deep))


class Eyes:
    """What the model sees of a picture: resized once, encoded once."""

    def __init__(self, model: PreTrainedModel, processor: BaseImageProcessor, card: AgentCard) -> None:
        self._model, self._processor = model, processor
        self._bounds = pixel_bounds(processor, card)
        self._views: dict[int, tuple[weakref.ref[Image], Image]] = {}
        self._lock = threading.Lock()
        self._features: OrderedDict[str, Features] = OrderedDict()
        self._kind: type[Any] | None = None
        self._encode: Callable[..., Any] = getattr(model, "get_image_features")  # noqa: B009
        self._arguments = set(inspect.signature(self._encode).parameters)

    def view(self, image: Image) -> Image:
        kept = self._views.get(id(image))
        if kept is not None and kept[0]() is image:
            return kept[1]
        seen = images.model_view(image, *self._bounds)
        if seen is not image:
            key = id(image)
            self._views[key] = (weakref.ref(image, lambda _: self._views.pop(key, None) and None), seen)
        return seen

    def features(self, view: Image) -> Features:
        """The picture alone through the vision tower, so that its features do not depend on its neighbours."""
        key = images.digest(view)
        with self._lock:
            if key in self._features:
                self._features.move_to_end(key)
                return self._features[key]
        pixels = self._processor(images=[view], return_tensors="pt")
        given = {k: v.to(self._model.device) for k, v in pixels.items() if k in self._arguments}
        out = self._encode(**given, return_dict=True)
        self._kind = type(out)
        deep = tuple(layer[0] for layer in getattr(out, "deepstack_features", None) or ())
        found = Features(out.pooler_output[0], deep, pixels.get("image_grid_thw"), key)
        with self._lock:
            self._features[key] = found
            while len(self._features) > 1 and sum(f.bytes for f in self._features.values()) > FEATURE_BYTES:
                self._features.popitem(last=False)
        return found

    def forget(self) -> None:
        """Drops every picture's features: they were made by other weights."""
        with self._lock:
            self._features.clear()

    def merge(self, features: list[Features]) -> dict[str, Any]:
        """The model's arguments that carry the pictures of a batch, in order."""
        if not features or self._kind is None:
            return {}
        fields: dict[str, Any] = {"pooler_output": [f.tokens for f in features]}
        if features[0].deep:
            fields["deepstack_features"] = [list(layer) for layer in zip(*(f.deep for f in features), strict=True)]
        return {"mm_encoder_outputs": {"image": self._kind(**fields)}}


def pixel_bounds(processor: BaseImageProcessor, card: AgentCard) -> tuple[int, int, int]:
    """Least and most pixels of a view, and what its sides are multiples of."""
    size: Any = getattr(processor, "size", None) or {}
    if merge := getattr(processor, "merge_size", None):  # Qwen: "edges" are areas
        least, most, multiple = (
            size["shortest_edge"],
            size["longest_edge"],
            int(getattr(processor, "patch_size", 14)) * int(merge),
        )
    else:
        side = int(size.get("height") or size.get("shortest_edge") or 448)
        least, most, multiple = side * side // 4, side * side, 1
    return int(card.min_pixels or least), int(card.max_pixels or most), multiple
