"""The Latin letters in many fonts, for pre-training: 52 classes of filled letters, no digit and no other character."""

import string
import unicodedata

import numpy as np
import torch
from pydantic import Field

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.options import Source
from ntkcl.data.sources.common.rendering import covered, render
from ntkcl.settings.models import Count, Fraction, Model

STIX = ["STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta"]
FONTS = [
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *STIX,
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10", "cmmi10"),
]
ALPHABETS = range(0x1D400, 0x1D6A4)  # the Latin part of Unicode's mathematical alphanumeric symbols


class Options(Model):
    """Options of the letters."""

    size: Count = Field(32, description="side of the images in pixels")
    held_out: Fraction = Field(0.1, description="fraction of each letter's images to hold out, to report an accuracy")
    seed: int = Field(0, description="seed of the split")


def make(options: Options) -> ImageSet:
    """Render every letter in every font, and STIX's mathematical alphabets; a part of each class is for testing.

    Raises:
        UserError: matplotlib or one of its fonts is missing.
    """
    rendered = [(letter, letter, font) for font in FONTS for letter in string.ascii_letters]
    rendered += [(letter, character, font) for font in STIX for letter, character in _alphabets(font)]
    # Some alphabets repeat a font's letters. Of equal images one is kept; otherwise some would be in both splits.
    unique: dict[tuple[str, bytes], tuple[np.ndarray, str]] = {}
    for letter, character, font in rendered:
        image = render(character, font, options.size)
        unique.setdefault((letter, image.tobytes()), (image, f"U+{ord(character):04X}/{font}"))
    classes = [letter for letter, _ in unique]
    images, ids = zip(*unique.values(), strict=True)
    return ImageSet(
        Manifest(list(ids), classes, _splits(classes, options)), torch.from_numpy(np.stack(images))[:, None]
    )


def _alphabets(font: str) -> list[tuple[str, str]]:
    """Return pairs of a letter and one of its mathematical variants in `font`."""
    present = [chr(point) for point in ALPHABETS if point in covered(font)]
    pairs = [(unicodedata.normalize("NFKC", character), character) for character in present]
    return [pair for pair in pairs if pair[0] in string.ascii_letters]  # the block has a dotless i and j as well


def _splits(classes: list[str], options: Options) -> list[str]:
    generator = np.random.default_rng(options.seed)
    splits = np.full(len(classes), "train", dtype=object)
    for letter in sorted(set(classes)):
        members = np.flatnonzero(np.array(classes) == letter)
        splits[generator.permutation(members)[: round(options.held_out * len(members))]] = "test"
    return splits.tolist()


SOURCE = Source(Options, make)
