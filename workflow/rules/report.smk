# Tables and figures. Titles, sections and captions are in `ntkcl/reporting/`.


def in_report(path):
    """`path`, an output that the report for a browser shows."""
    return report(path, **browser_report[Path(path).stem])


def figure_files(names):
    """The files of these figures: PDF for print, PNG for the report."""
    return [
        file for name in names for file in (f"reports/figures/{name}.pdf", in_report(f"reports/figures/{name}.png"))
    ]


rule aggregate:
    input:
        [run.folder / "metrics.json" for run in runs],
    output:
        "reports/metrics.json",
    log:
        "reports/logs/aggregate.log",
    benchmark:
        "reports/logs/aggregate.benchmark.tsv"
    params:
        study=config["study"],
        report_digest=report_digest(study),  # labels and notes
    message:
        "collect the metrics of study {params.study}"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl report aggregate {params.study}"


rule figures:
    input:
        "reports/metrics.json",
    output:
        figure_files(metrics_figures),
    log:
        "reports/logs/figures.log",
    benchmark:
        "reports/logs/figures.benchmark.tsv"
    message:
        "plot the figures of the metrics"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl report figures"


rule tables:
    input:
        "reports/metrics.json",
        # not read by the command; this one target makes everything (`ancient` would hide jobs that must run:
        # https://github.com/snakemake/snakemake/issues/4166)
        [f"reports/figures/{name}.pdf" for name in figures],
        analysis_tables,
        wandb_logs,
    output:
        multiext("reports/tables", ".tex", ".md"),
        in_report("reports/tables.html"),
    log:
        "reports/logs/tables.log",
    benchmark:
        "reports/logs/tables.benchmark.tsv"
    message:
        "write the tables"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl report tables"
