"""What the model sees of a picture: resized once, encoded once."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import PreTrainedModel

from deepmmsearch import images
from deepmmsearch.policies.local.families import Family

FEATURE_BYTES = 256 * 2**20


@dataclass
class PictureFeatures:
    """A picture as the language model reads it. `grid` is [1, 3] (time, rows, columns) or None; `deep` are the further
    layers of Qwen3-VL; `ids` stand for it in the text, in place of its placeholder; `digest` names the picture."""

    tokens: Tensor
    deep: tuple[Tensor, ...]
    grid: Tensor | None
    ids: tuple[int, ...]
    digest: str

    @property
    def count(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.tokens, *self.deep))


class Eyes:
    """What the model sees of a picture: resized once, encoded once."""

    def __init__(self, model: PreTrainedModel, family: Family) -> None:
        self._model, self.family = model, family
        self._lock = threading.Lock()
        self._features: OrderedDict[str, PictureFeatures] = OrderedDict()
        self._kind: type[Any] | None = None
        self._in_one = False  # does the model hold the features of all pictures in one tensor, or in a list?
        self._encode: Callable[..., Any] = getattr(model, "get_image_features")  # noqa: B009
        self._arguments = set(inspect.signature(self._encode).parameters)

    def features(self, view: Image) -> PictureFeatures:
        """The picture alone through the vision tower, so that its features do not depend on its neighbours."""
        key = images.digest(view)
        with self._lock:
            if key in self._features:
                self._features.move_to_end(key)
                return self._features[key]
        pixels = self.family.inputs([view])
        given = {k: v.to(self._model.device) for k, v in pixels.items() if k in self._arguments}
        out = self._encode(**given, return_dict=True)
        self._kind, self._in_one = type(out), isinstance(out.pooler_output, Tensor)
        deep = tuple(layer[0] for layer in getattr(out, "deepstack_features", None) or ())
        tokens = out.pooler_output[0]
        ids = self.family.ids(view.size, len(tokens))
        found = PictureFeatures(tokens, deep, pixels.get("image_grid_thw"), ids, key)
        with self._lock:
            self._features[key] = found
            while len(self._features) > 1 and sum(f.bytes for f in self._features.values()) > FEATURE_BYTES:
                self._features.popitem(last=False)
        return found

    def forget(self) -> None:
        """Drops every picture's features: they were made by other weights."""
        with self._lock:
            self._features.clear()

    def merge(self, features: list[PictureFeatures]) -> dict[str, Any]:
        """The model's arguments that carry the pictures of a batch, in order."""
        if not features or self._kind is None:
            return {}
        tokens = [f.tokens for f in features]
        fields: dict[str, Any] = {"pooler_output": torch.cat(tokens) if self._in_one else tokens}
        if features[0].deep:
            fields["deepstack_features"] = [list(layer) for layer in zip(*(f.deep for f in features), strict=True)]
        return {"mm_encoder_outputs": {"image": self._kind(**fields)}}

    def positions(self, ids: Sequence[int], features: Sequence[PictureFeatures]) -> Tensor:
        """[axes, tokens]: three axes for models with multimodal rotary positions, else one."""
        rope_index = getattr(self._model.model, "get_rope_index", None)
        grids = [f.grid for f in features if f.grid is not None]
        if rope_index is None or not grids:
            return torch.arange(len(ids)).expand(1 if rope_index is None else 3, -1)
        tokens = torch.tensor([ids])
        kinds = torch.eq(tokens, self.family.image_id).int()
        found, _ = rope_index(tokens, kinds, image_grid_thw=torch.cat(grids))
        positions: Tensor = found[:, 0]
        return positions
