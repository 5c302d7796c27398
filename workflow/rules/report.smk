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
        "ntkcl aggregate {params.study} > {log} 2>&1"


rule figures:
    input:
        "reports/metrics.json",
    output:
        multiext("reports/figures/accuracy", ".pdf", ".png"),
    log:
        "reports/logs/figures.log",
    benchmark:
        "reports/logs/figures.benchmark.tsv"
    message:
        "figures"
    shell:
        "ntkcl figures > {log} 2>&1"


rule tables:
    input:
        "reports/metrics.json",
        # not read here: asked for so that this one target makes everything (`ancient` would hide jobs that must run:
        # https://github.com/snakemake/snakemake/issues/4166)
        "reports/figures/accuracy.pdf",
        [run.folder / "wandb" for run in runs],
    output:
        multiext("reports/tables", ".tex", ".md"),
    log:
        "reports/logs/tables.log",
    benchmark:
        "reports/logs/tables.benchmark.tsv"
    message:
        "tables"
    shell:
        "ntkcl tables > {log} 2>&1"
