"""`progress.csv` of a task: a point of its curves every few seconds, while it trains."""

import csv
import math
import os
import time
from datetime import datetime
from pathlib import Path

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
        try:
            if self.is_new:
                earlier = [each for each in read_points(self.path) if int(each["step"]) < rows[0][0]]
                self._write_anew((*COLUMNS, *columns[3:]), earlier)
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(point)
            self.is_new = False
        except (OSError, ValueError, KeyError, TypeError, csv.Error):  # of a file that somebody else wrote, too
            self.is_new = True

    def _write_anew(self, header: tuple[str, ...], points: list[dict[str, str]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, header, restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(points)
        temporary.replace(self.path)


def read_points(path: Path) -> list[dict[str, str]]:
    """Read the points in `path`, none if it does not exist; a last line that is being written is left out."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return list(csv.DictReader(whole.splitlines()))


def _mean(values: tuple[float, ...]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
