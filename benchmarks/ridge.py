"""Time what RanPAC does with a task's features, for several numbers of images:

    python benchmarks/ridge.py --images 5000 --images 12500

Features are random, of width 768; there are 10,000 hidden units and 10 classes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import torch
import torch.nn.functional as F

from ntkcl.methods.ranpac import RanPAC
from ntkcl.peft.ridge_head import ridge_head, ridge_losses, sound_ridges

WIDTH, CLASSES, FITTED = 768, 10, 0.8  # the last: share of images that heads are fitted to while the ridge is chosen


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds that something takes."""
    begin = time.perf_counter()
    yield
    print(f"  {what}: {time.perf_counter() - begin:.1f} s", flush=True)


@click.command()
@click.option("--images", "numbers", type=click.IntRange(2), multiple=True, default=[5000, 12500], show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
def main(numbers: tuple[int, ...], threads: int) -> None:
    """Time the sums, the choice of the ridge and the head."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    settings = RanPAC.Settings()
    projection = torch.randn(WIDTH, settings.projection)
    for number in numbers:
        labels = torch.arange(number) % CLASSES
        targets = F.one_hot(labels, CLASSES).float()
        features = torch.randn(CLASSES, WIDTH)[labels] + torch.randn(number, WIDTH)
        print(f"{number} images, {settings.projection} hidden units, {threads} CPU threads")
        with timed("sums G and Q"):
            hidden = (features @ projection).relu()
            gram, sums = hidden.T @ hidden, hidden.T @ targets
        ridges = sorted(sound_ridges(gram, settings.ridges))
        with timed(f"choice among the {len(ridges)} sound ridges"):
            losses = ridge_losses(hidden, targets, int(number * FITTED), ridges)
        with timed("head"):
            ridge_head(gram, sums, ridges[int(losses.argmin())])


if __name__ == "__main__":
    main()
