"""Reading of image files: which files are images, and how they become grayscale or color."""

import io
import stat
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePath

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ntkcl.errors import UserError

MAX_PIXELS = 110_000_000  # of an image, which takes up to 8 bytes per pixel while it is converted
NOT_PICTURES = {"EPS", "WMF", "HDF5", "BUFR", "GRIB", "MPEG", "FITS"}  # need other programs, or are data
UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

warnings.filterwarnings("ignore", module=r"PIL\.")  # about large images, invalid EXIF data and similar


@cache
def image_suffixes() -> frozenset[str]:
    """The endings of file names that Pillow reads as images, in lower case, with the dot."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in NOT_PICTURES)


def is_image(path: PurePath) -> bool:
    """Return whether the file name is that of an image, and not hidden, as the extra files that macOS adds."""
    return path.suffix.lower() in image_suffixes() and not path.name.startswith(".")


def left_out(paths: Iterable[PurePath]) -> str:
    """Describe files by number and ending, such as "3 .heic, 1 without ending"; an empty text if there are none."""
    counts = Counter(path.suffix.lower() or "without ending" for path in paths)
    return ", ".join(f"{count} {printable(suffix)}" for suffix, count in counts.most_common())


def printable(name: object) -> str:
    """Return a name with escapes for line breaks, other control characters, and bytes that are not UTF-8."""
    return "".join(c if c.isprintable() or c in "\u00a0\u202f\u200b" else ascii(c)[1:-1] for c in str(name))


def read_file(path: Path) -> bytes:
    """Read a regular file; a pipe would let the program wait for ever.

    Raises:
        UserError: it is missing, cannot be read, or is not a regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{printable(path)} is not a regular file (a folder, a pipe or a device); leave it out")
        return path.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        if path.is_symlink() and not path.exists():
            raise UserError(f"{printable(path)} is a link that leads nowhere; remove it") from error
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{printable(path)} cannot be read ({reason}); put the image back, or leave it out") from error


def decode(content: bytes, name: str) -> Image.Image:
    """Decode the image in `content` completely.

    Args:
        content: content of a file in any format that Pillow reads.
        name: name of the image for errors.

    Raises:
        UserError: `content` is not an image, is incomplete, has more than `MAX_PIXELS` pixels, or cannot become
            grayscale or color.
    """
    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
        image.load()
    except UnidentifiedImageError as error:
        raise UserError(f"{printable(name)} cannot be read as an image (unknown format)") from error
    except Exception as error:  # Pillow raises anything at damaged files
        reason = printable(error) or type(error).__name__
        raise UserError(f"{printable(name)} cannot be read as an image ({reason})") from error
    return checked(image, name)


def checked(image: Image.Image, name: str) -> Image.Image:
    """Return a loaded image that `picture_of` can convert; deep gray is converted to 8 bits.

    Raises:
        UserError: it cannot become grayscale or color, or has values whose range is unknown.
    """
    if image.mode in ("I", "F"):
        return _with_8_bits(image, name)
    try:
        small = image.resize((1, 1), Image.Resampling.NEAREST)
        for channels in (1, 3):
            picture_of(small, channels, exif_rotation=False)
        return image
    except Exception as error:
        reason = printable(error) or type(error).__name__
        raise UserError(f"{printable(name)} cannot become a color image ({reason}); save it in RGB") from error


def picture_of(image: Image.Image, channels: int, exif_rotation: bool = True) -> Image.Image:
    """Convert `image` to grayscale or color, from any mode: palette, gray of 8 or 16 bits, CMYK, transparent.

    Args:
        image: an image from `decode`.
        channels: 1 (grayscale) or 3 (color).
        exif_rotation: rotate the image by its EXIF data, if they can be read.
    """
    if exif_rotation and (turn := UPRIGHT.get(_orientation(image))):
        image = image.transpose(turn)
    if image.mode.startswith("I;16"):  # Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("LAB", "HSV"):  # which become gray by way of color only
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged data count as none; Pillow raises anything at them
        return None


def _with_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert gray of 32 bits: integers in the range of 16 bits if the format says so, and floats in [0, 1]."""
    values = np.asarray(image)
    if image.mode == "I" and image.format in ("PPM", "PNG"):  # Pillow scales these two to 16 bits
        gray = values.clip(0, 65535) >> 8
    elif image.mode == "F" and values.min() >= 0 and values.max() <= 1:  # false also if one is not a number
        gray = np.round(values * 255)
    else:
        kind = "whole numbers of 32 bits" if image.mode == "I" else "floats outside [0, 1]"
        raise UserError(f"{printable(name)} has {kind}, whose range is unknown; save it with 8 or 16 bits")
    small = Image.fromarray(gray.astype(np.uint8))
    small.info, small.format = image.info, image.format
    return small
