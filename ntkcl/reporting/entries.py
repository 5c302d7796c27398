"""Titles, sections and captions of the tables and figures in the report for a browser (`snakemake --report`)."""

from inspect import cleandoc
from typing import Literal, get_args

from pydantic import Field

from ntkcl.settings.models import Model

Section = Literal["Tables", "Accuracy", "Published and reproduced", "Ablations", "Three factors", "Inside the kernel"]
SECTIONS: tuple[Section, ...] = get_args(Section)  # in the order of the report; within one, sorted by file name

Source = Literal["metrics", "analysis"]


class Entry(Model):
    """A table or figure in the report."""

    title: str
    section: Section
    caption: str = Field(description="in reStructuredText; may be indented")
    source: Source = Field(description="name of the file in `reports/` with its numbers, without `.json`")
    files: str = Field("", description="text: the files that the numbers are from, if not `source` alone")

    def caption_of(self, study: str, seeds: list[int]) -> str:
        """The caption with study, seeds and files, in reStructuredText."""
        files = self.files or f"``reports/{self.source}.json``"
        return f"{cleandoc(self.caption)}\n\nStudy ``{study}``, seeds {', '.join(map(str, seeds))}; from {files}.\n"


TABLES = {
    "tables": Entry(
        title="All metrics",
        section="Tables",
        source="metrics",
        caption="""
            The metrics of each method in percent: mean ± sample standard deviation over the seeds. The best mean is in
            bold; joint training, which learns all classes at once, is not compared. A published number is in a row of
            its own, in italics, and is marked as published. The meaning of the columns, and device, versions and commit
            of the runs, are below the tables.
        """,
    ),
    "analysis": Entry(
        title="Comparisons: ablations, factors, kernels",
        section="Tables",
        source="analysis",
        caption="""
            The numbers behind the figures of the ablations, of the factors and of the kernel: differences to the
            reference, paired by seed, with 95 % intervals; measures along each sweep; rank correlations of the gaps
            with the terms of the theory.
        """,
    ),
}
