"""From the bytes of an image file to a picture."""

import io
import warnings
from pathlib import PurePath

from PIL import Image, UnidentifiedImageError

from ntkcl.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


warnings.filterwarnings("ignore", module=r"PIL\.")  # on large images, odd EXIF data and the like


def decode(content: bytes, name: str) -> Image.Image:
    """The picture in `content`, decoded whole.

    Args:
        content: a file of any format that Pillow reads.
        name: what the picture is called in an error.

    Raises:
        UserError: `content` is not an image, is cut off, or is absurdly large (see Pillow's MAX_IMAGE_PIXELS).
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        return image
    except UnidentifiedImageError as error:
        raise UserError(f"{name} cannot be read as an image (it is none of a known format)") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} cannot be read as an image ({error})") from error


def is_image(path: PurePath) -> bool:
    """Whether the file's name is that of an image, and not of a hidden file such as macOS puts beside each."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
