"""Names of variants that spell their settings, and grids of such names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkcl.errors import UserError
from ntkcl.methods.ntk_cl.settings import NTKCLSettings
from ntkcl.runs import resolve, runs_of
from ntkcl.settings.files import load_study
from ntkcl.settings.models import Preprocessing, Training
from ntkcl.settings.variants import format_value, grid_names, settings_in_name
from tests.helpers.projects import change, clear_settings

MODELS = {"settings": NTKCLSettings, "training": Training, "preprocessing": Preprocessing}
NUMBERS = st.one_of(st.integers(0, 10**6), st.floats(1e-9, 1e9), st.booleans())


def read(name: str) -> dict:
    """The sections that a name changes."""
    return {section: values for section, values in settings_in_name(name, MODELS, "here").items() if values}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prompts_5", {"settings": {"prompts": 5}}),
        ("fusion_sum", {"settings": {"fusion": "sum"}}),
        ("pretrained_part_true", {"settings": {"pretrained_part": True}}),
        ("dissimilarity_squared_norm", {"settings": {"dissimilarity": "squared_norm"}}),
        ("dissimilarity_weight_0.01", {"settings": {"dissimilarity_weight": 0.01}}),  # the longest key counts
        ("info_nce_weight_-0.03", {"settings": {"info_nce_weight": -0.03}}),
        ("lr_1e-05", {"training": {"lr": 1e-5}}),
        ("first_lr_0.05-lr_0.005", {"training": {"first_lr": 0.05, "lr": 0.005}}),
        ("crop_pct_1-lr_0.1", {"training": {"lr": 0.1}, "preprocessing": {"crop_pct": 1}}),
    ],
)
def test_a_name_spells_settings_of_any_section(name, expected):
    assert read(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lr_0.010", "write 'lr_0.01' instead of 'lr_0.010'"),
        ("lr_1e-5", "write 'lr_1e-05' instead of 'lr_1e-5'"),
        ("lr_0.2-first_lr_0.1", "write 'first_lr_0.1-lr_0.2' instead of 'lr_0.2-first_lr_0.1'"),
        ("promts_5", "'promts_5' is neither a named variant nor SETTING_VALUE; did you mean 'prompts'"),
        ("prompts_", "'prompts_' is neither"),
        ("prompts", "'prompts' is neither"),
        ("", "'' is neither"),
        ("lr_0.1-lr_0.2", "lr has two values; give one"),
        ("lr_inf", "'lr_inf' is not finite"),
        ("lr_1e+06", "write 'lr_1e06' instead of 'lr_1e\\+06'"),
    ],
)
def test_a_name_in_any_other_form_is_refused(name, message):
    with pytest.raises(UserError, match=f"^here: {message}"):
        read(name)


@given(st.fixed_dictionaries({"lr": NUMBERS, "first_lr": NUMBERS, "momentum": NUMBERS, "fusion": st.just("sum")}))
def test_names_of_a_grid_spell_its_values(values):
    (name,) = grid_names({key: [value] for key, value in values.items()})
    found = read(name)
    assert found["training"] | found["settings"] == {key: short(value) for key, value in values.items()}


def short(value):
    """A value as a name spells it: a whole number without a decimal point."""
    return int(value) if isinstance(value, float) and format_value(value).lstrip("-").isdigit() else value


def test_a_grid_has_all_combinations_with_the_last_key_varying_fastest():
    names = grid_names({"lr": [0.1, 0.2], "epochs": [6, 12]})
    assert names == ["epochs_6-lr_0.1", "epochs_12-lr_0.1", "epochs_6-lr_0.2", "epochs_12-lr_0.2"]


def resolved(variant: str):
    return resolve("digits", "vit_tiny", variant, 0)


def add_variants(text: str) -> None:
    """Named variants of NTK-CL in the tiny project."""
    with Path("params/methods/ntk_cl.yaml").open("a") as file:
        file.write(f"variants: {text}\n")
    clear_settings()


def test_a_variant_has_the_settings_in_its_name(tiny_settings):
    run, plain = resolved("ntk_cl/epochs_3-fusion_sum"), resolved("ntk_cl")
    assert (run.training.epochs, run.settings.fusion) == (3, "sum")
    assert run.training.model_copy(update={"epochs": 2}) == plain.training
    assert run.digest != plain.digest
    assert run.label == "NTK-CL (epochs 3, fusion sum)"


def test_a_named_variant_may_have_a_label_and_must_not_contradict_its_name(tiny_settings):
    add_variants("{prompts_5: {label: five prompts, settings: {prompts: 5}}}")
    assert resolved("ntk_cl/prompts_5").label == "NTK-CL (five prompts)"
    change("params/methods/ntk_cl.yaml", "prompts_5:", "prompts_6:")
    clear_settings()
    with pytest.raises(UserError, match=r"'ntk_cl/prompts_6' .* has other settings than its name says"):
        resolved("ntk_cl/prompts_6")


def test_values_of_a_name_are_validated(tiny_settings):
    with pytest.raises(UserError, match="training: epochs: Input should be greater than or equal to 0"):
        resolved("ntk_cl/epochs_-1")
    with pytest.raises(UserError, match="settings: fusion: Input should be 'attention'"):
        resolved("ntk_cl/fusion_product")


def test_a_study_runs_all_variants_of_its_grids(tiny_settings):
    path = Path("params/studies/quickstart.yaml")
    grid = "grids: [{method: ntk_cl, values: {lr: [0.1, 0.2], epochs: [1, 2]}}]\n"
    path.write_text(path.read_text().replace("variants: [simplecil, ntk_cl, joint]\n", grid))
    clear_settings()
    runs = runs_of(load_study("quickstart"))
    assert [(run.training.lr, run.training.epochs) for run in runs] == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
