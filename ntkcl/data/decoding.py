"""From the bytes of an image file to a picture."""

import io
import warnings
from pathlib import PurePath

from PIL import Image, ImageOps

from ntkcl.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
MOST_PIXELS = 200_000_000  # more is taken for an attack or an accident


def decode(content: bytes, name: str, exif_rotation: bool = False) -> Image.Image:
    """The picture in `content`, decoded whole.

    Args:
        content: a file of any format that Pillow reads.
        name: what the picture is called in an error.
        exif_rotation: turn it as its EXIF data say.

    Raises:
        UserError: `content` is not an image, is cut off, or is absurdly large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on large images, odd EXIF data and the like
            image = Image.open(io.BytesIO(content))
            if image.width * image.height > MOST_PIXELS:
                raise UserError(f"{name} has {image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
            image.load()
            return ImageOps.exif_transpose(image) if exif_rotation else image
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} cannot be read as an image ({error})") from error


def is_image(path: PurePath) -> bool:
    """Whether the file's name is that of an image, and not of a hidden file such as macOS puts beside each."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
