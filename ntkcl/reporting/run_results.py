"""Models of a finished run's `metrics.json` and `kernel.json`, as far as reports need them."""

from typing import ClassVar

from pydantic import Field

from ntkcl.settings.models import Model

PerTask = list[float | None]
"""A measure of each task; None where it is not defined."""


class MadeWith(Model):
    """Device, package versions, lock file and commit that a part of a run was computed with."""

    device: str
    versions: dict[str, str]
    lock: str | None = None
    commit: str


class RunName(Model, extra="allow"):
    """The four names of a run. Its settings are kept as further fields."""

    dataset: str
    backbone: str
    variant: str
    seed: int


class RunData(Model, extra="allow"):
    """Digests of the images that a run was computed from."""

    split: str = Field(description="digest of the image names, classes and splits")
    content: str = Field(description="digest of the images too")


class ContinualMetrics(Model, extra="allow"):
    """Metrics of a run, see `ntkcl.metrics.continual`; in percent or points. None where a metric is not defined."""

    accuracy: list[float] = Field(description="A_t after each task")
    accuracy_matrix: list[list[float]] = Field(description="a(t, k): row t has k = 0 .. t")
    average_accuracy: float
    final_accuracy: float
    forgetting: float | None
    backward_transfer: float | None
    learning_accuracy: float | None


class RunResult(Model, extra="allow"):
    """Base of the files of a run. Fields that reports do not need are kept."""

    file_name: ClassVar[str]
    digest: str = Field(description="digest of the run's settings")
    provenance: list[MadeWith]


class RunMetrics(RunResult):
    """A run's `metrics.json`."""

    file_name: ClassVar[str] = "metrics.json"
    run: RunName
    data: RunData
    metrics: ContinualMetrics


class Gaps(Model, extra="allow"):
    """Gaps between accuracies in points, for each task; see `ntkcl.analysis.measure.gaps`."""

    task_specific_gap: PerTask
    task_interplay_gap: PerTask
    same_classes_gap: PerTask


class TaskForecast(Model):
    """Agreement of forecast and measured changes of old scores when one task is learned."""

    correlation: float | None
    correlation_in_all: float | None
    slope: float | None
    drop_forecast: float = Field(description="loss of accuracy among old classes by the forecast changes, in points")
    drop_measured: float = Field(description="the same by the measured changes")


class KernelMeasures(RunResult):
    """A run's `kernel.json`. A learner that trains nothing has gaps and overlaps only."""

    file_name: ClassVar[str] = "kernel.json"
    how: dict[str, float] = Field(description="numbers of images and ridges that the measures depend on")
    gaps: Gaps
    overlap: list[PerTask] | None
    coupling: list[PerTask] | None = None
    complexity: PerTask | None = None
    complexity_end: PerTask | None = None
    rademacher: PerTask | None = None
    effective_dimension: PerTask | None = None
    trace: PerTask | None = None
    drift: PerTask | None = None
    alignment: PerTask | None = None
    forecast: list[TaskForecast] | None = Field(None, description="for each task after the first")
