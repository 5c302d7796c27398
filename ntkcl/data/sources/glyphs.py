"""Hollow Greek, Cyrillic and mathematical characters: 100 classes in a style that letter recognizers never saw."""

import unicodedata
from typing import Any, Literal

import numpy as np
import torch

from ntkcl.data.prepared.arrays import ImageSet
from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.options import Source
from ntkcl.data.sources.common.rendering import render
from ntkcl.settings.models import Count, Model

# The rule by which these were chosen once: take the characters of U+0391-03C9, U+0402-0491, U+2190-2199, U+21D0-21D9
# and U+2200-2310 that all 14 fonts below have and that do not decompose; draw them filled at 32x32, blur by one pixel
# and correlate. In the order of code points, keep one whose correlation is at most 0.86 in the mean over the fonts
# with every Latin letter, every digit and every one kept before, and at most 0.93 with a letter or digit in any font.
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
    """Settings of the glyphs."""

    size: Count = 32
    seed: int = 0
    holdout: Literal["test", "validation"] = "test"


def fonts_of(holdout: str) -> dict[str, list[str]]:
    """The fonts of each split; with the holdout "validation" no test font is used."""
    if holdout == "test":
        return {"train": TRAIN_FONTS, "test": TEST_FONTS}
    return {"train": [font for font in TRAIN_FONTS if font not in VALIDATION_FONTS], "test": VALIDATION_FONTS}


def make(options: Options) -> ImageSet:
    """Every character in every font, several times with small random changes.

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
