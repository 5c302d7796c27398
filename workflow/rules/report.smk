# Tables and figures, and where they stand in the report of `snakemake --report`.

sections = ["Tables", "Accuracy"]
sections += ["Published and reproduced"] if study.tables else []
sections += ["Ablations", "Three factors", "Inside the kernel"] if study.reference else []

IN_REPORT = {  # the section of each, and its title; the caption is workflow/report/NAME.rst
    "tables": ("Tables", "All metrics"),
    "analysis": ("Tables", "Comparisons: ablations, factors, kernels"),
    "accuracy": ("Accuracy", "Accuracy over the tasks"),
    "matrices": ("Accuracy", "Accuracy matrices"),
    "forgetting": ("Accuracy", "Forgetting"),
    "published": ("Published and reproduced", "Published and reproduced accuracy"),
    "ablations": ("Ablations", "What each part is worth"),
    "sensitivity": ("Three factors", "Sample size, task-level features, regularization"),
    "gaps": ("Inside the kernel", "Gaps and what the theory holds against them"),
    "kernels": ("Inside the kernel", "Kernels"),
    "spectra": ("Inside the kernel", "Spectra of the kernels"),
    "features": ("Inside the kernel", "Features"),
    "forecast": ("Inside the kernel", "Forgetting, forecast and measured"),
}


def in_report(path):
    """`path`, an output that stands in the report."""
    name = Path(path).stem
    section, title = IN_REPORT[name]
    return report(
        path,
        category=f"{sections.index(section) + 1}. {section}",  # Snakemake sorts them by name
        labels={"Title": title},
        caption=f"../report/{name}.rst",
    )


def drawn(names):
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
        words=report_digest(study),  # labels and notes
    message:
        "collect the metrics of study {params.study}"
    shell:
        "ntkcl report aggregate {params.study} > {log} 2>&1"


rule figures:
    input:
        "reports/metrics.json",
    output:
        drawn(metric_figures),
    log:
        "reports/logs/figures.log",
    benchmark:
        "reports/logs/figures.benchmark.tsv"
    message:
        "figures"
    shell:
        "ntkcl report figures > {log} 2>&1"


rule tables:
    input:
        "reports/metrics.json",
        # not read here: asked for so that this one target makes everything (`ancient` would hide jobs that must run:
        # https://github.com/snakemake/snakemake/issues/4166)
        [f"reports/figures/{name}.pdf" for name in metric_figures + analysis_figures],
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
        "tables"
    shell:
        "ntkcl report tables > {log} 2>&1"
