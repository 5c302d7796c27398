"""What a method's own paper, README or logs report for a dataset and backbone: a finished run should come near it."""

from itertools import groupby
from typing import Annotated, Literal

from pydantic import Field

from ntkcl.reporting.csv_lines import Printed, csv_lines
from ntkcl.reporting.study_metrics import ExpectedRange, StudyMetrics
from ntkcl.settings.files import PARAMS, load_dataset
from ntkcl.settings.models import Count, Model, Name
from ntkcl.settings.studies import Study

PATH = "published/expected.csv"
LEAST_MARGIN = 1.0  # points, where no deviation is reported or it is small
DEVIATIONS = 2
FAR = 3.0  # points outside a range, from which on something is probably wrong


class ExpectedNumber(Model):
    """A line of the CSV, in percent."""

    variant: Annotated[str, Field(min_length=1, description="of which it is reported, as in a study")]
    dataset: Name
    tasks: Count = Field(description="number of tasks")
    backbone: Name
    metric: Literal["average_accuracy", "final_accuracy", "forgetting"]
    mean: Printed
    std: Printed | Literal[""] = Field(description="over seeds, if it is reported")
    source: Annotated[str, Field(min_length=1)]


def expected_ranges(study: Study) -> list[ExpectedRange]:
    """Return the ranges for the variants of `study` with its datasets and backbones.

    A range goes from the lowest to the highest reported number, and further by two standard deviations of each, by at
    least one point.

    Raises:
        UserError: the CSV has a wrong line.
    """
    path = PARAMS / PATH
    if not path.is_file():
        return []
    tasks = {name: len(load_dataset(name).task_sizes) for name in study.datasets}
    found = [
        line
        for line in csv_lines(path, ExpectedNumber)
        if line.variant in study.every_variant and line.backbone in study.backbones
        if tasks.get(line.dataset) == line.tasks
    ]

    def key(line: ExpectedNumber) -> tuple[str, ...]:
        return line.dataset, line.backbone, line.variant, line.metric

    return [_range(list(lines)) for _, lines in groupby(sorted(found, key=key), key)]


def verdicts(study: StudyMetrics) -> list[str]:
    """Say for each range whether the mean of the finished runs lies in it; those farthest outside come first."""
    means = {
        (row.dataset, row.backbone, row.variant, metric): (row, value.mean)
        for row in study.summaries
        for metric, value in row.metrics.items()
        if value
    }
    found = []
    for each in study.expected:
        if (key := (each.dataset, each.backbone, each.variant, each.metric)) in means:
            row, mean = means[key]
            outside = max(each.low - mean, mean - each.high, 0.0)
            side = "above" if mean > each.high else "below"
            place = f"{outside:.2f} {side} what is expected" if outside else "as expected"
            advice = "; look at its settings, data and weights" if outside > FAR else ""
            name = f"{row.label}, {row.dataset_label}, {row.backbone_label}"
            metric = each.metric.replace("_", " ")
            found.append((outside, f"{name}: {metric} {mean:.2f} is {place} ({each.text}: {each.source}){advice}"))
    return [text for _, text in sorted(found, key=lambda pair: -pair[0])]


def _range(lines: list[ExpectedNumber]) -> ExpectedRange:
    first, ends = lines[0], []
    for line in lines:
        margin = max(LEAST_MARGIN, DEVIATIONS * float(line.std or 0))
        ends += [float(line.mean) - margin, float(line.mean) + margin]
    return ExpectedRange(
        dataset=first.dataset,
        backbone=first.backbone,
        variant=first.variant,
        metric=first.metric,
        low=round(min(ends), 2),
        high=round(max(ends), 2),
        source="; ".join(dict.fromkeys(line.source for line in lines)),
    )
