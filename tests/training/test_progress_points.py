"""`progress.csv`: what training writes for those who watch it."""

from pathlib import Path

import pytest

from ntkcl.training.progress_points import ProgressPoints, read_points

COLUMNS = ("step", "epoch", "lr", "total", "entropy")


def rows(first: int, last: int) -> list[list[float]]:
    return [[step, 1, 0.1, float(step), float("nan") if step % 2 else 1.0] for step in range(first, last)]


def test_a_point_has_the_means_since_the_last_one(tmp_path: Path):
    points = ProgressPoints(tmp_path / "progress.csv", images_per_step=16)
    points.add(COLUMNS, rows(0, 4))
    points.add(COLUMNS, rows(4, 6))
    first, second = read_points(tmp_path / "progress.csv")
    assert (first["step"], first["total"], first["entropy"], second["step"], second["total"]) == (
        "3",
        "1.5",
        "1.0",
        "5",
        "4.5",
    )
    assert float(first["images_per_second"]) > 0


def test_steps_that_are_done_again_have_one_point(tmp_path: Path):
    """A process that was killed goes on from a checkpoint before its last point; or it begins anew."""
    path = tmp_path / "progress.csv"
    before = ProgressPoints(path, 1)
    for first in (0, 4, 8):
        before.add(COLUMNS, rows(first, first + 4))
    resumed = ProgressPoints(path, 1)
    resumed.add(COLUMNS, rows(6, 9))
    resumed.add(COLUMNS, rows(9, 12))
    assert [point["step"] for point in read_points(path)] == ["3", "8", "11"]
    ProgressPoints(path, 1).add(COLUMNS, rows(0, 2))
    assert [point["step"] for point in read_points(path)] == ["1"]


def test_a_line_that_is_being_written_is_no_point(tmp_path: Path):
    path = tmp_path / "progress.csv"
    ProgressPoints(path, 1).add(COLUMNS, rows(0, 4))
    with path.open("a") as file:
        file.write("2026-01-01,7,1,0")
    assert [point["step"] for point in read_points(path)] == ["3"]


def test_a_folder_that_cannot_be_written_costs_points_only(tmp_path: Path):
    (tmp_path / "file").touch()
    ProgressPoints(tmp_path / "file" / "progress.csv", 1).add(COLUMNS, rows(0, 4))


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"step\n\xff\xfe\n", b"step\nx\n", b"\0"])
def test_a_damaged_file_costs_points_only(tmp_path: Path, content: bytes):
    (tmp_path / "progress.csv").write_bytes(content)
    assert read_points(tmp_path / "progress.csv") == []  # W&B's uploader reads it, too
    ProgressPoints(tmp_path / "progress.csv", 1).add(COLUMNS, rows(4, 8))
    assert [point["step"] for point in read_points(tmp_path / "progress.csv")] == ["7"]
