"""The model of a study: a list of runs, and what is reported about them."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ntkcl.settings.models import Line, Model, Name
from ntkcl.settings.variants import VARIANT_PATTERN, Value, grid_names

VariantName = Annotated[str, Field(pattern=rf"^{VARIANT_PATTERN}$")]


class PublishedTable(Model):
    """A table of a paper, with methods in rows and datasets in columns."""

    title: Line = Field(description="caption of the table")
    backbone: Name = Field(description="backbone of all its numbers")
    datasets: Annotated[list[Name], Field(min_length=1)] = Field(description="columns, in order")


class Ablation(Model):
    """A group of rows of the ablation table."""

    title: Line = Field(description="heading of the group")
    variants: Annotated[list[VariantName], Field(min_length=1)] = Field(description="rows, in order")


class Grid(Model):
    """All combinations of some values of a method's settings. Each is a variant whose name spells its values."""

    method: Name = Field(description="method that the variants belong to")
    values: Annotated[dict[Name, Annotated[list[Value], Field(min_length=1)]], Field(min_length=1)] = Field(
        description="values of each setting of the learner, of Training or of Preprocessing"
    )

    @property
    def variants(self) -> list[str]:
        """The variants, in the order of the values."""
        return [f"{self.method}/{name}" for name in grid_names(self.values)]


class Sweep(Model):
    """A factor that variants change step by step."""

    title: Line = Field(description="title of the figure's column")
    axis: str = Field(description="label of the horizontal axis")
    points: Annotated[dict[VariantName, float], Field(min_length=2)] = Field(
        description="value of the factor for each variant"
    )


class Study(Model):
    """A list of runs, and what is reported about them: `params/studies/NAME.yaml`. It changes no setting.

    Its tables show `variants` and `grids`. The variants of ablations and sweeps are compared with the `reference`.
    """

    title: Line = Field(description="title of the report")
    published: str = Field("", description="CSV file under params/ with a paper's numbers, shown next to ours")
    tables: dict[Name, PublishedTable] = Field({}, description="the paper's tables, by number")
    datasets: Annotated[list[Name], Field(min_length=1)] = Field(description="datasets of the runs")
    backbones: Annotated[list[Name], Field(min_length=1)] = Field(description="backbones of the runs")
    variants: list[VariantName] = Field([], description="variants in the tables")
    grids: list[Grid] = Field([], description="more variants for the tables, such as candidates for tuning")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(description="seeds of the runs")
    reference: str | None = Field(None, description="variant that ablations and sweeps are compared with")
    ablations: list[Ablation] = Field([], description="groups of variants that change one part of the reference")
    sweeps: dict[Name, Sweep] = Field({}, description="factors that are varied, by name")
    kernels: list[VariantName] = Field(
        [], description="variants whose kernels are measured, besides those of the sweeps"
    )

    @property
    def table_variants(self) -> list[str]:
        """The variants in the tables: the listed ones, then the variants of the grids."""
        return list(dict.fromkeys([*self.variants, *(variant for grid in self.grids for variant in grid.variants)]))

    @property
    def every_variant(self) -> list[str]:
        """All variants that are run, each once."""
        parts = [self.table_variants, *(group.variants for group in self.ablations), self.measured]
        return list(dict.fromkeys(variant for part in parts for variant in part))

    @property
    def measured(self) -> list[str]:
        """The variants whose kernels are measured, each once."""
        parts = [self.kernels, *(sweep.points for sweep in self.sweeps.values())]
        return list(dict.fromkeys(variant for part in parts for variant in part))

    @field_validator("datasets", "backbones", "variants", "seeds")
    @classmethod
    def _each_once(cls, values: list) -> list:
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"{twice[0]} is listed twice; remove one of them")
        return values

    @model_validator(mode="after")
    def _has_variants(self) -> "Study":
        if not self.table_variants:
            raise ValueError("no variant to run; list one in variants, or add a grid")
        return self

    @model_validator(mode="after")
    def _has_reference(self) -> "Study":
        if (self.ablations or self.sweeps) and self.reference not in self.variants:
            raise ValueError(
                f"reference is {self.reference}; give one of variants, to compare ablations and sweeps with"
            )
        return self
