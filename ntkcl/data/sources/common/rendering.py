"""Rendering of single characters with the fonts in matplotlib's package: images without a download."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from ntkcl.errors import UserError

SUPERSAMPLING = 4  # factor of the size at which characters are rendered, then averaged: smooth edges
CHARACTER_FRACTION = 0.7  # the longer side of an upright character, as a fraction of the image side
FONT_PIXELS = 128


@cache
def font_path(name: str) -> Path:
    """Return the file of matplotlib's font `name`, such as "DejaVuSans-Bold".

    Raises:
        UserError: matplotlib or the font is missing.
    """
    try:
        import matplotlib  # here, because few importers of this module render anything
    except ImportError as error:
        raise UserError("no matplotlib, whose fonts the images need; run `pip install matplotlib`") from error
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    if not path.is_file():
        raise UserError(f"no font file {path}; reinstall matplotlib, or remove the font from the dataset's module")
    return path


@cache
def covered(name: str) -> frozenset[int]:
    """Return the code points for which the font `name` has a glyph."""
    path = font_path(name)
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(path)).get_charmap())


@cache
def solid(character: str, font: str) -> Image.Image:
    """Render `character` filled, white on black, cropped to its bounding box, at `FONT_PIXELS` pixels per em.

    Raises:
        UserError: the font has no such character.
    """
    if ord(character) not in covered(font):
        raise UserError(f"font {font} has no glyph for '{character}' (U+{ord(character):04X}); remove one of them")
    # The basic layout engine: the images must not depend on whether the other one is installed.
    face = ImageFont.truetype(str(font_path(font)), FONT_PIXELS, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = face.getbbox(character)
    image = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=face)
    return image.crop(image.getbbox())


def render(
    character: str,
    font: str,
    size: int,
    rotation: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    outline: float = 0.0,
) -> np.ndarray:
    """Render `character` in the center; its longer side is a fixed fraction of the image's.

    Args:
        character: one character.
        font: name of one of matplotlib's fonts.
        size: side of the image in pixels.
        rotation: degrees, counterclockwise.
        scale: factor of the fixed fraction.
        shift: right and down, as fractions of the image side.
        outline: width of the line around the hollow character in pixels; 0 fills the character instead.

    Returns:
        Gray values (size, size), uint8, white on black.
    """
    side = size * SUPERSAMPLING
    image = _placed(solid(character, font), side, rotation, scale, shift)
    if outline:
        image = ImageChops.subtract(_dilated(image, max(1, round(outline * SUPERSAMPLING))), image)
    return np.asarray(image.reduce(SUPERSAMPLING))


def _placed(glyph: Image.Image, side: int, rotation: float, scale: float, shift: tuple[float, float]) -> Image.Image:
    """Place `glyph` on a canvas of `side` pixels."""
    zoom = CHARACTER_FRACTION * scale * side / max(glyph.size)
    cos, sin = np.cos(np.radians(rotation)) / zoom, np.sin(np.radians(rotation)) / zoom
    x, y = side * (0.5 + shift[0]), side * (0.5 + shift[1])
    # Pillow takes the inverse map: from a point of the canvas to a point of the glyph.
    back = (cos, -sin, glyph.width / 2 - cos * x + sin * y, sin, cos, glyph.height / 2 - sin * x - cos * y)
    return glyph.transform((side, side), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)


def _dilated(image: Image.Image, pixels: int) -> Image.Image:
    """`image` with each pixel replaced by the maximum of those at most `pixels` away in each direction."""
    from scipy.ndimage import maximum_filter  # here: settings are validated without it; Pillow's filter is slow

    return Image.fromarray(maximum_filter(np.asarray(image), 2 * pixels + 1, mode="nearest"))
