"""Decoding of image files."""

import io
import warnings
from pathlib import PurePath

from PIL import Image, UnidentifiedImageError

from ntkcl.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


warnings.filterwarnings("ignore", module=r"PIL\.")  # about large images, invalid EXIF data and similar


def decode(content: bytes, name: str) -> Image.Image:
    """Decode the image in `content` completely.

    Args:
        content: content of a file in any format that Pillow reads.
        name: name of the image for errors.

    Raises:
        UserError: `content` is not an image, is incomplete, or is absurdly large (see Pillow's MAX_IMAGE_PIXELS).
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        return image
    except UnidentifiedImageError as error:
        raise UserError(f"{name} cannot be read as an image (unknown format)") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} cannot be read as an image ({error})") from error


def is_image(path: PurePath) -> bool:
    """Return whether the file name is that of an image, and not hidden, as the extra files that macOS adds."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
