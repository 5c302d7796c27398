"""Model of `reports/metrics.json`: the metrics of a study, for its tables and figures."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ntkcl.reporting.json_files import parsed
from ntkcl.reporting.run_results import RunMetrics
from ntkcl.settings.models import Model
from ntkcl.storage.files import read_json

REPORTS = Path("reports")


class Summary(Model):
    """A number over the seeds."""

    mean: float
    std: float | None = Field(description="sample standard deviation; None for a single seed")
    n: int = Field(description="number of seeds")


class Provenance(Model):
    """Devices, commits and package versions of several runs, each once and sorted."""

    devices: list[str]
    commits: list[str]
    locks: list[str] = Field(default=[], description="lock files of the environments, where they are known")
    versions: dict[str, list[str]]


class AccuracyCurve(Model):
    """A_t over the tasks, in percent: mean and sample standard deviation over the seeds."""

    mean: list[float] | None = Field(description="None without runs")
    std: list[float] | None = Field(description="None without two seeds")


class VariantSummary(Model):
    """One variant with one dataset and backbone, over its seeds."""

    dataset: str
    dataset_label: str
    dataset_note: str
    task_sizes: list[int] = Field(description="classes of each task")
    backbone: str
    backbone_label: str
    variant: str
    label: str
    method_label: str = Field(description="name in published tables")
    method_note: str = ""
    protocol: Literal["incremental", "joint"]
    seeds: list[int] = Field(description="seeds that have finished")
    metrics: dict[str, Summary | None] = Field(description="None where nothing has run, or the metric is not defined")
    accuracy: AccuracyCurve

    @property
    def condition(self) -> tuple[str, str]:
        """The names of dataset and backbone."""
        return self.dataset, self.backbone

    @property
    def is_joint(self) -> bool:
        """True if all classes were trained at once: an upper bound, which is not compared with the others."""
        return self.protocol == "joint"


class PublishedNumber(Model):
    """Mean and standard deviation of an accuracy in percent, as the paper prints them."""

    mean: str
    std: str = Field(description="empty where the paper gives none")


class PublishedMethod(Model):
    """A row of a published table."""

    label: str
    venue: str = Field(description="where the method was published; empty for the paper's own")
    numbers: dict[str, dict[str, PublishedNumber]] = Field(description="by dataset and metric")


class PaperTable(Model):
    """A published table that a study reproduces."""

    number: str
    title: str
    backbone: str
    datasets: list[str]
    dataset_labels: list[str]
    dataset_notes: list[str]
    methods: list[PublishedMethod] = Field(description="in the paper's order")


class ReproducedTable(PaperTable):
    """A published table, and the provenance of the runs that reproduce it."""

    provenance: Provenance


class ExpectedRange(Model):
    """The range that a mean over seeds should be in, by what others report: `ntkcl.reporting.expected_numbers`."""

    dataset: str
    backbone: str
    variant: str
    metric: str
    low: float
    high: float
    source: str

    @property
    def text(self) -> str:
        """The range."""
        return f"{self.low:.2f} to {self.high:.2f}"


class StudyMetrics(Model):
    """The content of `reports/metrics.json`."""

    study: str
    title: str
    report_digest: str = Field(description="see `ntkcl.reporting.digest.report_digest`")
    seeds: list[int]
    provenance: Provenance
    runs: list[RunMetrics]
    missing: list[str] = Field(description="names of the runs that have not finished")
    splits: dict[str, str] = Field(description="digest of the split of each dataset that has runs")
    paper: list[ReproducedTable]
    expected: list[ExpectedRange] = Field([], description="of the variants in the summaries")
    summaries: list[VariantSummary] = Field(description="in the study's order")
    means: dict[str, dict[str, float]] = Field(description="means by run and metric, which `dvc metrics` prints")


def read_study_metrics(reports: Path = REPORTS) -> StudyMetrics:
    """Read `metrics.json` in the folder `reports`.

    Raises:
        UserError: it is missing, or does not fit.
    """
    path = reports / "metrics.json"
    return parsed(StudyMetrics, read_json(path), path, "run `ntkcl report aggregate STUDY` to write it again")
