"""`progress.csv` of a task: a point of its curves every few seconds, while it trains."""

import csv
import io
import math
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ntkcl.errors import UserError
from ntkcl.storage.files import write_text

COLUMNS = ("time", "step", "epoch", "lr", "images_per_second")  # then the means of the losses since the last point


class ProgressPoints:
    """Writes the points; nothing reads them in training, so that a file that cannot be written only lacks points.

    Args:
        path: the file. It goes on where training resumes, without the points of steps that are done again.
        images_per_step: mean number of images of a step.
    """

    def __init__(self, path: Path, images_per_step: float) -> None:
        self.path, self.images_per_step, self.is_new = path, images_per_step, True
        self.since = time.monotonic()

    def add(self, columns: tuple[str, ...], rows: list[list[float]]) -> None:
        """Add a point for the last steps.

        Args:
            columns: `step`, `epoch`, `lr`, and names of losses.
            rows: a row for each step since the last point.
        """
        now = time.monotonic()
        speed, self.since = len(rows) * self.images_per_step / (now - self.since), now
        means = [_mean(values) for values in zip(*(row[3:] for row in rows), strict=True)]
        step, epoch, lr = rows[-1][:3]
        at = datetime.now().astimezone().isoformat(timespec="milliseconds")
        point = [at, int(step), int(epoch), lr, round(speed, 1), *means]
        with suppress(OSError, UserError):
            if self.is_new:
                earlier = [each for each in read_points(self.path) if int(each["step"]) < rows[0][0]]
                text = io.StringIO()
                header = (*COLUMNS, *columns[3:])
                writer = csv.DictWriter(text, header, restval="", extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(earlier)
                write_text(self.path, text.getvalue())
                self.is_new = False
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(point)


def read_points(path: Path) -> list[dict[str, str]]:
    """Read the points in `path`; none if it is missing or damaged. A last line that is being written is left out."""
    try:
        points = list(csv.DictReader(path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()))
        for point in points:
            values = dict(point)
            datetime.fromisoformat(values.pop("time")), int(values.pop("step")), int(values.pop("epoch"))
            [float(value) for value in values.values() if value != ""]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
    return points


def _mean(values: tuple[float, ...]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
