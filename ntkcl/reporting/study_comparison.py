"""Model of `reports/analysis.json`: a study's ablations, sweeps and kernels, for their tables and figures.

A condition is a dataset with a backbone, named "DATASET/BACKBONE".
"""

from pathlib import Path

from pydantic import Field

from ntkcl.errors import UserError
from ntkcl.reporting.json_files import parsed
from ntkcl.reporting.study_metrics import REPORTS, Provenance, Summary
from ntkcl.settings.models import Model
from ntkcl.storage.files import read_json


class Difference(Model):
    """A mean difference over pairs, and its 95 % interval."""

    mean: float
    low: float | None = Field(description="None for a single pair")
    high: float | None
    n: int = Field(description="number of pairs")


class Correlation(Model):
    """Rank correlations, one a seed: their mean `rho` and its 95 % interval."""

    rho: float | None = Field(description="None where no seed has one")
    low: float | None
    high: float | None
    n: int = Field(description="number of seeds")


class PooledCorrelation(Correlation):
    """Rank correlations with the points of all seeds, as (x, y)."""

    points: list[tuple[float, float]]


Summaries = dict[str, Summary | None]
"""Summaries by name of the measure; None where it is not defined."""


class Condition(Model):
    """A dataset with a backbone."""

    name: str
    label: str = Field(description="label of the dataset")
    backbone_label: str
    note: str
    tasks: int


class AblationRow(Model):
    """A variant, and its differences to the reference."""

    variant: str
    label: str = Field(description="the variant's change, in words")
    cells: dict[str, dict[str, Difference | None]] = Field(description="by condition and metric")


class AblationGroup(Model):
    """Rows under one heading."""

    title: str
    rows: list[AblationRow]


class MeasuredVariant(Model):
    """Accuracies, gaps and kernel measures of a variant; the measures of a run are means over its tasks."""

    variant: str
    label: str
    cells: dict[str, Summaries] = Field(description="by condition and measure")


class SweepPoint(Model):
    """A variant of a sweep, with the same measures."""

    variant: str
    value: float
    cells: dict[str, Summaries] = Field(description="by condition and measure")


class SweepResult(Model):
    """A factor that the variants `points` change step by step."""

    name: str
    title: str
    axis: str
    points: list[SweepPoint]


class GapRanking(PooledCorrelation):
    """Rank correlation of a gap with a term of the theory over variants and tasks; points are (term, gap)."""

    condition: str
    gap: str
    gap_label: str
    term: str
    term_label: str
    within: Correlation = Field(description="over variants only, mean over tasks")


class ForecastResult(Model):
    """Agreement of forecast and measured changes of old scores, of one variant; means over tasks."""

    condition: str
    variant: str
    label: str
    correlation: Summary | None
    correlation_in_all: Summary | None
    slope: Summary | None
    drops: PooledCorrelation = Field(description="of lost accuracies; points are (forecast, measured)")


class StudyComparison(Model):
    """The content of `reports/analysis.json`."""

    study: str
    title: str
    seeds: list[int]
    reference: str
    reference_label: str
    provenance: Provenance
    how: dict[str, float] | None = Field(description="see `KernelMeasures`; None without measured kernels")
    conditions: list[Condition]
    reference_cells: dict[str, Summaries] = Field(description="measures of the reference, by condition")
    ablations: list[AblationGroup]
    sweeps: list[SweepResult]
    methods: list[MeasuredVariant]
    ranking: list[GapRanking]
    forecast: list[ForecastResult]
    examples: dict[str, dict[str, str]] = Field(
        description="path of `kernel.safetensors` of the first measured seed, by condition and variant"
    )


def read_study_comparison(reports: Path = REPORTS) -> StudyComparison:
    """Read `analysis.json` in the folder `reports`.

    Raises:
        UserError: it is missing, or does not fit.
    """
    path = reports / "analysis.json"
    if not path.exists():
        raise UserError(f"{path} is missing; run `ntkcl report compare STUDY`, of a study with ablations or sweeps")
    return parsed(StudyComparison, read_json(path), path, "run `ntkcl report compare STUDY` to write it again")
