"""How a family of models takes pictures: their size, their pixels, and the tokens that stand for them in the text.

Families are found through the entry-point group `deepmmsearch.families`, by the `model_type` of a checkpoint's
config.json.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedTokenizerBase

from deepmmsearch import images
from deepmmsearch.errors import UserError
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.registry import Registry

SQUARE_TOWERS = ("clip_vision_model", "siglip_vision_model")


class Family:
    """Models of which nothing is known: each placeholder is repeated as often as its picture has features.

    They can play, not be trained. `view` makes of a picture what the model sees; `bounds` are least and most pixels of
    a view, and what its sides are multiples of; `markers` are ids that come with pictures alone.
    """

    trains = False
    """Can be fine-tuned; `tokens` and `inputs` of many views are known."""
    grids = False
    """Pictures keep their shape, as a grid of patches with rotary positions on three axes."""
    markers: frozenset[int] = frozenset()

    def __init__(
        self,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        processor: BaseImageProcessor,
        card: AgentCard | None = None,
    ) -> None:
        self.config, self.tokenizer, self.processor = config, tokenizer, processor
        self.image_token = placeholder(config, tokenizer)
        self.image_id = int(tokenizer.convert_tokens_to_ids(self.image_token) or 0)
        card = card or AgentCard()
        least, most, multiple = self._own_bounds()
        self.bounds = (card.min_pixels or least, card.max_pixels or most, multiple)
        self._views: dict[int, tuple[weakref.ref[Image.Image], Image.Image]] = {}

    @classmethod
    def fits(cls, config: PreTrainedConfig, processor: BaseImageProcessor) -> bool:
        """Is the checkpoint one of those that this family knows? Others of its model type are played as unknown."""
        return True

    def view(self, image: Image.Image) -> Image.Image:
        kept = self._views.get(id(image))
        if kept is not None and kept[0]() is image:
            return kept[1]
        seen = images.model_view(image, *self.bounds)
        if seen is not image:
            key = id(image)
            self._views[key] = (weakref.ref(image, lambda _: self._views.pop(key, None) and None), seen)
        return seen

    def tokens(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The ids that stand for a view of (width, height), in place of its placeholder; those of its features are
        `image_id`. Only where `trains`."""
        raise NotImplementedError(f"a {self.config.model_type} model tells by its features alone")

    def features(self, size: tuple[int, int]) -> int:
        """How many of `tokens` are features of the picture."""
        return self.tokens(size).count(self.image_id)

    def ids(self, size: tuple[int, int], features: int) -> tuple[int, ...]:
        """`tokens` of a view that was seen to have so many features. Raises UserError where it should not."""
        found = self.tokens(size) if self.trains else (self.image_id,) * features
        if found.count(self.image_id) != features:
            raise UserError(
                f"A picture of {size[0]} x {size[1]} pixels has {features} features, but a {self.config.model_type} "
                f"model of this configuration should give {found.count(self.image_id)}. config.json "
                "and preprocessor_config.json do not belong together: fetch both again."
            )
        return found

    def inputs(self, views: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The model's arguments for the pixels of these views, in order."""
        return dict(self.processor(images=list(views), return_tensors="pt"))

    def beside(self, sizes: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """What the model needs of views whose features it is given instead of pixels."""
        return {}

    def token_types(self, ids: Tensor) -> dict[str, Tensor]:
        """The model's argument that says where pictures are in `ids` [rows, tokens], where it has one."""
        return {}

    def _own_bounds(self) -> tuple[int, int, int]:
        side = int(self._size("height") or self._size("shortest_edge") or self._size("longest_edge") or 448)
        return side * side // 4, side * side, 1

    def _size(self, name: str) -> int | None:
        return (getattr(self.processor, "size", None) or {}).get(name)


class PatchGrid(Family):
    """Qwen2-VL and its successors: pictures of any size, in patches that are merged."""

    trains = grids = True

    @classmethod
    def fits(cls, config: PreTrainedConfig, processor: BaseImageProcessor) -> bool:
        return bool(getattr(processor, "merge_size", None))

    def tokens(self, size: tuple[int, int]) -> tuple[int, ...]:
        cell = self.bounds[2]
        assert size[0] % cell == size[1] % cell == 0, f"a view of {size} is not in multiples of {cell}"
        return (self.image_id,) * (size[0] // cell * (size[1] // cell))

    def inputs(self, views: Sequence[Image.Image]) -> dict[str, Tensor]:
        """`pixel_values` [patches of all views, values of a patch] and `image_grid_thw` [views, 3]."""
        return dict(self.processor(images=list(views), do_resize=False, return_tensors="pt"))

    def beside(self, sizes: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        patch = self.processor.patch_size
        return {"image_grid_thw": torch.tensor([[1, height // patch, width // patch] for width, height in sizes])}

    def token_types(self, ids: Tensor) -> dict[str, Tensor]:
        return {"mm_token_type_ids": torch.eq(ids, self.image_id).int()}

    def _own_bounds(self) -> tuple[int, int, int]:
        # here "edges" are areas
        size, cell = self.processor.size, self.processor.patch_size * self.processor.merge_size
        return int(size["shortest_edge"]), int(size["longest_edge"]), int(cell)


class FixedSquare(Family):
    """LLaVA: every picture becomes one square, and so a fixed number of features."""

    trains = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given, wanted = self.inputs([Image.new("RGB", (1, 1))])["pixel_values"].shape[-1], self._side
        if given != wanted:
            raise UserError(
                f"The image processor makes squares of {given} pixels, but the model looks at {wanted}. config.json "
                "and preprocessor_config.json do not belong together: fetch both again."
            )

    @property
    def _side(self) -> int:
        return int(self.config.vision_config.image_size)

    @classmethod
    def fits(cls, config: PreTrainedConfig, processor: BaseImageProcessor) -> bool:
        return config.vision_config.model_type in SQUARE_TOWERS

    def tokens(self, size: tuple[int, int]) -> tuple[int, ...]:
        vision = self.config.vision_config
        count = (self._side // vision.patch_size) ** 2
        # CLIP puts its class token before the patches; "full" keeps it
        count += self.config.vision_feature_select_strategy == "full" and vision.model_type == "clip_vision_model"
        return (self.image_id,) * count


class Tiles(Family):
    """Idefics3 and SmolVLM: a picture is cut into tiles, each named by row and column, and seen as a whole too."""

    trains = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        named = re.compile(r"<fake_token_around_image>|<global-img>|<row_\d+_col_\d+>")
        self.markers = frozenset(i for token, i in self.tokenizer.get_vocab().items() if named.fullmatch(token))
        self._tokens: Callable[[tuple[int, int]], tuple[int, ...]] = lru_cache(maxsize=4096)(self._laid_out)

    def tokens(self, size: tuple[int, int]) -> tuple[int, ...]:
        return self._tokens(size)

    def inputs(self, views: Sequence[Image.Image]) -> dict[str, Tensor]:
        """`pixel_values` [1, tiles of all views, 3, side, side] and, where it is padded, `pixel_attention_mask`."""
        made = [self.processor(images=[view], return_tensors="pt") for view in views]
        return {name: torch.cat([one[name] for one in made], dim=1) for name in made[0]}

    def _laid_out(self, size: tuple[int, int]) -> tuple[int, ...]:
        from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

        # the processor's own estimate of rows and columns differs from what it does, so it is asked to do it
        made = self.processor(images=[Image.new("RGB", size)], return_row_col_info=True, return_tensors="pt")
        side = made["pixel_values"].shape[-1] // self.config.vision_config.patch_size
        each = side**2 // self.config.scale_factor**2
        text = get_image_prompt_string(
            made["rows"][0][0],
            made["cols"][0][0],
            each,
            fake_token_around_image="<fake_token_around_image>",
            image_token=self.image_token,
            global_image_token="<global-img>",
        )
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _own_bounds(self) -> tuple[int, int, int]:
        # the processor scales every picture to its longest edge, smaller ones too
        return 1, int(self._size("longest_edge") or 448) ** 2, 1


FAMILIES = Registry[type[Family]](
    "deepmmsearch.families",
    "family of models",
    lambda found: isinstance(found, type) and issubclass(found, Family),
    "a subclass of Family; docs/extending.md shows one",
)


def placeholder(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes for a picture."""
    number = getattr(config, "image_token_id", None)
    if number is not None:
        return str(tokenizer.convert_ids_to_tokens(number))
    return getattr(tokenizer, "image_token", None) or "<|image_pad|>"


def find_family(
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    processor: BaseImageProcessor,
    card: AgentCard | None = None,
) -> Family:
    """Raises UserError where a package's family cannot be imported."""
    # successors of Qwen2-VL share its processor before anybody has named them
    kind = FAMILIES.find(config.model_type) if config.model_type in FAMILIES.names() else PatchGrid
    return (kind if kind.fits(config, processor) else Family)(config, tokenizer, processor, card)


def refuse_untrainable(family: Family, source: str) -> None:
    if not family.trains:
        raise UserError(
            f"{source!r} is a {family.config.model_type} model, which can answer here but not be trained. Give a "
            "Qwen2-VL, Qwen2.5-VL or Qwen3-VL, a LLaVA with a CLIP or SigLIP tower, an Idefics3 or a SmolVLM."
        )
