"""The tables of `reports/analysis.json`: ablations, sweeps, what ranks the gaps, forecasts."""

from pathlib import Path
from typing import Any

from ntkcl.reporting.collect import REPORTS
from ntkcl.reporting.tables.html import page
from ntkcl.reporting.tables.latex import LATEX_HEAD, latex
from ntkcl.reporting.tables.markdown import escape_markdown, markdown
from ntkcl.reporting.tables.model import WIDTH, Cell, Column, Row, Table
from ntkcl.reporting.tables.notes import provenance_note, seeds_note, sentences
from ntkcl.storage.files import read_json, write_text

DIFFERENCES = (
    Column("average_accuracy", "Ā", r"$\Delta\bar{A}$", "Ā: mean over tasks of the accuracy on all classes seen"),
    Column("final_accuracy", "A_T", r"$\Delta A_T$", "A_T: the accuracy on all classes after the last task"),
    Column("forgetting", "Forgetting", r"$\Delta$ Forgetting", "Forgetting: mean drop from a task's best to the end"),
)
MEASURES = (
    Column("average_accuracy", "Ā", r"$\bar{A}$", "Ā: mean over tasks of the accuracy on all classes seen"),
    Column("forgetting", "Forgetting", "Forgetting", "Forgetting: mean drop of a task's accuracy from best to end"),
    Column("task_specific_gap", "Gap now", "Gap now", "Gap now: training minus test accuracy of a task when learned"),
    Column("task_interplay_gap", "Gap later", "Gap later", "Gap later: what its test accuracy loses until the end"),
    Column(
        "same_classes_gap",
        "... same classes",
        "$\\dots$ same classes",
        "... same classes: the same among the classes known when it was learned, by what the learner changes alone",
    ),
    Column(
        "effective_dimension",
        "d_eff",
        r"$d_\mathrm{eff}$",
        "d_eff: Tr K (K + ρI)⁻¹ of the kernel K of 40 of a task's images when learned, ρ its mean eigenvalue",
    ),
    Column("drift", "Drift", "Drift", "Drift: relative change of that kernel until the end"),
    Column("coupling", "Coupling", "Coupling", "Coupling: ‖K_ij‖ / √(‖K_ii‖ ‖K_jj‖) of two tasks, at the end"),
    Column("overlap", "Overlap", "Overlap", "Overlap: mean squared cosine of their features' five leading directions"),
)
RANKINGS = (
    Column("rho", "ρ", r"$\rho$", "ρ: over variants and tasks together, whose number of earlier classes differs"),
    Column("within", "ρ, same task", r"$\rho$, same task", "ρ, same task: over variants, mean over tasks"),
)
FORECASTS = (
    Column("slope", "Slope", "Slope", "Slope: of the line through 0 from forecast to measured changes"),
    Column("correlation", "r", "$r$", "r: correlation of forecast and measured changes of old scores by training"),
    Column("correlation_in_all", "r, all", "$r$, all", "r, all: the same with all that a task changes"),
    Column(
        "drops",
        "ρ, drops",
        r"$\rho$, drops",
        "ρ, drops: rank correlation, over a run's tasks, of what these cost among old classes",
    ),
)


def write_comparison_tables(reports: Path = REPORTS) -> None:
    """Write `analysis.tex`, `.md` and `.html` from `analysis.json`, all in `reports`; equal content gives equal bytes.

    Raises:
        UserError: `analysis.json` is missing.
    """
    content = read_json(reports / "analysis.json")
    tables, title, notes = comparison_tables(content), content["title"], _notes(content)
    floats = [latex(part) for table in tables for part in table.split_columns(WIDTH)]
    write_text(reports / "analysis.tex", "\n".join([LATEX_HEAD.replace("metrics.json", "analysis.json"), *floats]))
    parts = [f"# {escape_markdown(title)}\n", *map(markdown, tables), f"{escape_markdown(notes)}\n"]
    write_text(reports / "analysis.md", "\n".join(parts))
    write_text(reports / "analysis.html", page(title, tables, notes))


def comparison_tables(content: dict[str, Any]) -> list[Table]:
    """All tables, in the order of the report; what the study has not is left out."""
    tables = [_ablations(content)] if content["ablations"] else []
    tables += [_methods(content)] if content["methods"] else []
    tables += [_sweep(content, sweep) for sweep in content["sweeps"]]
    tables += [_ranking(content)] if content["sweeps"] else []
    return tables + ([_forecast(content)] if content["forecast"] else [])


def _ablations(content: dict[str, Any]) -> Table:
    """Differences to the reference; under it, a heading and the variants of each group."""
    reference = Row(content["reference_label"], _across(content, content["reference_cells"], DIFFERENCES, _spread_cell))
    groups = [
        [
            Row(group["title"], []),
            *(Row(row["label"], _across(content, row["cells"], DIFFERENCES, interval_cell)) for row in group["rows"]),
        ]
        for group in content["ablations"]
    ]
    caption = (
        f"What each part of {content['reference_label']} is worth: differences to it in percentage points, paired over "
        f"seeds {', '.join(map(str, content['seeds']))}, with 95 % intervals (Student's t). Its own row: mean ± sample "
        "standard deviation. With so many rows, some intervals leave out 0 by chance."
    )
    columns = _columns(content, DIFFERENCES)
    return _table("ablations", caption, columns, [[reference], *groups], content, "Variant")


def _methods(content: dict[str, Any]) -> Table:
    rows = [(method["label"], method["cells"]) for method in content["methods"]]
    return _measures(content, "inside-methods", "Inside the methods.", rows, "Method")


def _sweep(content: dict[str, Any], sweep: dict[str, Any]) -> Table:
    rows = [(f"{point['value']:g}", point["cells"]) for point in sweep["points"]]
    return _measures(content, f"sweep-{sweep['name']}", f"{sweep['title']}. Rows: {sweep['axis']}.", rows, "Value")


def _measures(
    content: dict[str, Any], name: str, caption: str, rows: list[tuple[str, dict[str, Any]]], head: str
) -> Table:
    """Accuracies, gaps and kernel measures: under a heading for each dataset, the `rows`."""
    sections = [
        [
            Row(setting["label"], []),
            *(
                Row(label, [_spread_cell(cells[setting["name"]].get(c.metric)) for c in MEASURES])
                for label, cells in rows
            ),
        ]
        for setting in content["settings"]
    ]
    caption += f" Accuracies and gaps in percent, means over tasks, {seeds_note(content['seeds'])}."
    return _table(name.replace("_", "-"), caption, list(MEASURES), sections, content, head)


def _ranking(content: dict[str, Any]) -> Table:
    """Spearman's correlations, two columns for each dataset."""
    found = {(row["setting"], row["gap"], row["term"]): row for row in content["ranking"]}
    gaps = {row["gap"]: row["gap_label"] for row in content["ranking"]}
    terms = {(row["gap"], row["term"]): row["term_label"] for row in content["ranking"]}
    sections = []
    for gap, words in gaps.items():
        rows = [
            Row(label, [cell for s in content["settings"] for cell in _ranking_cells(found[s["name"], gap, term])])
            for (of_gap, term), label in terms.items()
            if of_gap == gap
        ]
        sections.append([Row(words, []), *rows])
    caption = (
        "How well the kernel's terms rank the measured gaps over the runs of the sweeps: Spearman's rank correlation, "
        "its mean over seeds and a 95 % interval (Student's t). The complexity is the norm of the kernel ridge "
        "predictor of a task's labels over the root of the number of images that it was learned from."
    )
    return _table("gap-ranking", caption, _columns(content, RANKINGS), sections, content, "Term")


def _ranking_cells(row: dict[str, Any]) -> list[Cell]:
    return [_ranked_cell(row), _ranked_cell(row["within"])]


def _forecast(content: dict[str, Any]) -> Table:
    found = {(row["setting"], row["variant"]): row for row in content["forecast"]}
    rows = [
        Row(
            label,
            [cell for setting in content["settings"] for cell in _forecast_cells(found[setting["name"], variant])],
        )
        for variant, label in {row["variant"]: row["label"] for row in content["forecast"] if row["slope"]}.items()
    ]
    caption = (
        "Forgetting before it happens: the first-order change K(old, new)(K(new, new) + ρI)⁻¹(y − p) of old classes' "
        f"scores against the change that came. Means over tasks, {seeds_note(content['seeds'])}; the last with an interval."
    )
    return _table("forecasts", caption, _columns(content, FORECASTS), [rows], content)


def _forecast_cells(row: dict[str, Any]) -> list[Cell]:
    return [
        _spread_cell(row["slope"]),
        _spread_cell(row["correlation"]),
        _spread_cell(row["correlation_in_all"]),
        _ranked_cell(row["drops"]),
    ]


def _columns(content: dict[str, Any], columns: tuple[Column, ...]) -> list[Column]:
    """The columns for every dataset."""
    return [
        Column(c.metric, c.heading, c.latex, c.meaning, dataset=setting["label"])
        for setting in content["settings"]
        for c in columns
    ]


def _across(content: dict[str, Any], cells: dict[str, Any], columns: tuple[Column, ...], cell: Any) -> list[Cell]:
    return [cell(cells[setting["name"]].get(c.metric)) for setting in content["settings"] for c in columns]


def _table(
    name: str,
    caption: str,
    columns: list[Column],
    sections: list[list[Row]],
    content: dict[str, Any],
    head: str = "Method",
) -> Table:
    meanings = dict.fromkeys(column.meaning for column in columns)
    return Table(name, caption, {"": sentences(*meanings)}, _notes(content), columns, sections, head)


def _notes(content: dict[str, Any]) -> str:
    return sentences("A dash: not run, or without meaning", *provenance_note(content))


def interval_cell(value: dict[str, Any] | None) -> Cell:
    """A difference and its interval."""
    if value is None or value["mean"] is None:
        return Cell()
    return Cell(f"{_plain(value['mean'], '+')}{_interval(value)}")


def _ranked_cell(value: dict[str, Any]) -> Cell:
    return Cell() if value["rho"] is None else Cell(f"{_plain(value['rho'])}{_interval(value)}")


def _interval(value: dict[str, Any]) -> str:
    return "" if value["low"] is None else f" [{_plain(value['low'])}, {_plain(value['high'])}]"


def _plain(value: float, sign: str = "-") -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:{sign}.2f}"


def _spread_cell(value: dict[str, Any] | None) -> Cell:
    if value is None:
        return Cell()
    return Cell(f"{value['mean']:.2f}", "" if value["std"] is None else f"{value['std']:.2f}")
