"""The model of a study: what is run, and what is reported."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ntkcl.settings.models import Model, Name
from ntkcl.settings.variants import Value, grid_names


class PublishedTable(Model):
    """A table of a paper: the methods in rows, the datasets in columns."""

    title: str
    backbone: Name
    datasets: Annotated[list[Name], Field(min_length=1)]


class Ablation(Model):
    """A group of rows of the ablation table."""

    title: str
    variants: Annotated[list[str], Field(min_length=1)]


class Grid(Model):
    """All combinations of some values of a method's settings; each is a variant that is named after its values."""

    method: Name
    values: Annotated[dict[Name, Annotated[list[Value], Field(min_length=1)]], Field(min_length=1)] = Field(
        description="settings of the learner, of training or of preprocessing"
    )

    @property
    def variants(self) -> list[str]:
        """The variants, in the order of the values."""
        return [f"{self.method}/{name}" for name in grid_names(self.values)]


class Sweep(Model):
    """A factor that variants change step by step."""

    title: str
    axis: str = Field(description="the words at the axis: what the values are")
    points: Annotated[dict[str, float], Field(min_length=2)] = Field(description="the value of each variant")


class Study(Model):
    """A list of runs and what is reported of them: `params/studies/NAME.yaml`. It changes no setting.

    `variants` stand in its tables; those of ablations and sweeps are compared with the `reference`.
    """

    title: str
    published: str = Field("", description="a CSV under params/ with a paper's numbers, to stand beside ours")
    tables: dict[Name, PublishedTable] = Field({}, description="the paper's tables, by number")
    datasets: Annotated[list[Name], Field(min_length=1)]
    backbones: Annotated[list[Name], Field(min_length=1)]
    variants: list[str] = Field([], description="variants in the tables")
    grids: list[Grid] = Field([], description="more variants for the tables, such as candidates for tuning")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    reference: str | None = Field(None, description="the variant that ablations and sweeps start from")
    ablations: list[Ablation] = Field([])
    sweeps: dict[Name, Sweep] = Field({})
    kernels: list[str] = Field([], description="variants beside those of the sweeps whose kernels are measured")

    @property
    def table_variants(self) -> list[str]:
        """The variants in the tables: those listed, then those of the grids."""
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
            raise ValueError(f"{twice[0]} stands there twice; name each once")
        return values

    @model_validator(mode="after")
    def _has_variants(self) -> "Study":
        if not self.table_variants:
            raise ValueError("name at least one of variants, or a grid")
        return self

    @model_validator(mode="after")
    def _has_reference(self) -> "Study":
        if (self.ablations or self.sweeps) and self.reference not in self.variants:
            raise ValueError(
                f"reference is {self.reference}: name one of variants, to compare ablations and sweeps with"
            )
        return self
