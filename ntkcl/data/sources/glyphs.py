"""Hollow Greek, Cyrillic and mathematical characters: 100 classes, in a style that is not among the letters."""

import unicodedata
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.options import Source
from ntkcl.data.sources.common.rendering import render
from ntkcl.settings.models import Count, Model

# These were chosen once, by this rule: take the characters of U+0391-03C9, U+0402-0491, U+2190-2199, U+21D0-21D9 and
# U+2200-2310 that all 14 fonts below have and that do not decompose; render them filled at 32x32, blur by one pixel and
# correlate. In the order of code points, keep a character if its correlation, averaged over the fonts, is at most 0.86
# with every Latin letter, every digit and every character kept before, and at most 0.93 with a letter or digit in any
# single font.
CHARACTERS = "ΞΣΦΨαβζλνςφωЂЉЊЋЏДЖЛЧЩЪЫЬЭЮЯфцђѣҐ←↑→↓↖↗↘↙⇐⇑⇒⇓⇖⇗⇘⇙∂∆∇∈∋∏∓∕∗∙√∝∞∟∠∫∸∹∺∻∼∽≂≃≐≑≒≓≔≡≤≥⊂⊃⊆⊇⊍⊏⊐⊓⊔⊕⊗⊞⊠⊢⊣⊥⋄⌂⌐"
TRAIN_FONTS = [
    "DejaVuSans",
    "DejaVuSansMono-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSans-BoldOblique",
    "STIXGeneral",
    "DejaVuSerif-Bold",
]
TEST_FONTS = [
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-BoldItalic",
    "STIXGeneralBol",
]
VALIDATION_FONTS = ["DejaVuSans-BoldOblique", "DejaVuSerif-Bold"]  # of the train fonts, one sans-serif and one serif
TRAIN_IMAGES, TEST_IMAGES = 36, 24  # of each class, equally many from each font

OUTLINE = 1.25  # pixels of 32
ROTATION, SCALE, SHIFT = 10.0, 0.15, 0.08  # degrees, relative, fraction of the image side; each uniform in +-


class Options(Model):
    """Options of the glyphs."""

    size: Count = Field(32, description="side of the images in pixels")
    seed: int = Field(0, description="seed of the small rotations, scalings and shifts")
    holdout: Literal["test", "validation"] = Field(
        "test", description="validation: two of the training fonts replace the test fonts"
    )


def fonts_of(holdout: str) -> dict[str, list[str]]:
    """Return the fonts of each split; the holdout "validation" uses no test font."""
    if holdout == "test":
        return {"train": TRAIN_FONTS, "test": TEST_FONTS}
    return {"train": [font for font in TRAIN_FONTS if font not in VALIDATION_FONTS], "test": VALIDATION_FONTS}


def make(options: Options) -> ImageSet:
    """Render every character in every font, several times with small random changes.

    Raises:
        UserError: matplotlib or one of its fonts is missing.
    """
    generator = np.random.default_rng(options.seed)
    images, classes, splits, ids = [], [], [], []
    for split, fonts in fonts_of(options.holdout).items():
        copies = (TRAIN_IMAGES if split == "train" else TEST_IMAGES) // len(fonts)
        for character in CHARACTERS:
            for font in fonts:
                for copy in range(copies):
                    outline = OUTLINE * options.size / 32
                    images.append(render(character, font, options.size, outline=outline, **_changes(generator)))
                    classes.append(unicodedata.name(character).lower())
                    splits.append(split)
                    ids.append(f"U+{ord(character):04X}/{font}/{copy}")
    return ImageSet(Manifest(ids, classes, splits), torch.from_numpy(np.stack(images))[:, None])


def _changes(generator: np.random.Generator) -> dict[str, Any]:
    rotation, scale, right, down = generator.uniform(-1, 1, 4)
    return {"rotation": ROTATION * rotation, "scale": 1 + SCALE * scale, "shift": (SHIFT * right, SHIFT * down)}


SOURCE = Source(Options, make)
