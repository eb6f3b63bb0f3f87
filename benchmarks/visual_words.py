"""Learns the visual words of picture search (engine/visual_words.npz) from the features of drawn pictures.

    python benchmarks/visual_words.py src/deepmmsearch/engine/visual_words.npz

Noise of natural spectra with shapes and letters over it: on photographs its words do nearly as well as words of
photographs (docs/engine.md), and nobody's pictures are needed. Other words than those of an index find nothing in it:
whoever replaces the file has to raise the format of the index.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepmmsearch.engine import descriptors as d
from deepmmsearch.engine.visual_words import BITS, SPLIT, WORDS

PICTURES, SAMPLE, TURNS = 400, 60_000, 15


def drawn(rng: random.Random, noise: np.random.Generator, width: int = 512, height: int = 384) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    spectrum = np.exp(2j * np.pi * noise.random(frequency.shape)) * frequency ** -rng.uniform(0.9, 1.6)
    ground = np.fft.irfft2(spectrum, (height, width))
    grey = np.clip((ground - ground.mean()) / ground.std() * 40 + 128, 0, 255)
    picture = Image.fromarray(grey.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randint(10, 60)):
        x, y, w, h = rng.randint(-40, width), rng.randint(-40, height), rng.randint(4, 160), rng.randint(4, 120)
        colour = rng.randint(0, 255)
        match rng.randrange(5):
            case 0:
                draw.rectangle([x, y, x + w, y + h], fill=colour)
            case 1:
                draw.ellipse([x, y, x + w, y + h], fill=colour)
            case 2:
                corners = [(x + rng.randint(0, w), y + rng.randint(0, h)) for _ in range(rng.randint(3, 7))]
                draw.polygon(corners, fill=colour)
            case 3:
                draw.line([x, y, x + w, y + h], fill=colour, width=rng.randint(1, 9))
            case _:
                letters = "".join(chr(rng.randint(33, 122)) for _ in range(9))
                draw.text((x, y), letters, fill=colour, font_size=rng.randint(9, 50))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2))), np.float32)
    grainy = blurred + noise.normal(0, rng.uniform(0, 6), blurred.shape)
    return np.repeat(np.clip(grainy, 0, 255).astype(np.uint8)[..., None], 3, 2)


def centres(values: np.ndarray, count: int, noise: np.random.Generator) -> np.ndarray:
    """Lloyd's algorithm."""
    sample = values[noise.permutation(len(values))[:SAMPLE]]
    found = sample[:count].copy()
    for _ in range(TURNS):
        nearest = (sample @ found.T - 0.5 * (found**2).sum(1)).argmax(1)
        for word in range(count):
            own = sample[nearest == word]
            found[word] = own.mean(0) if len(own) else sample[noise.integers(len(sample))]
    return found


def main() -> None:
    rng, noise = random.Random(0), np.random.default_rng(0)
    with d.one_thread():
        features = [d.local_features(drawn(rng, noise), 300).descriptors for _ in range(PICTURES)]
        rooted = d.root_sift(np.concatenate(features))
        halves = [centres(rooted[:, :SPLIT], WORDS, noise), centres(rooted[:, SPLIT:], WORDS, noise)]
    signs = noise.integers(0, 2, (rooted.shape[1], BITS)).astype(np.int8) * 2 - 1
    np.savez(Path(sys.argv[1]), centres=np.stack(halves).astype(np.float16), signs=signs)


if __name__ == "__main__":
    main()
