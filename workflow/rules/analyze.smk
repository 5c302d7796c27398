# Kernels, and comparisons, of a study that compares variants with a reference.


rule measure_kernel:
    input:
        "data/{dataset}/manifest.csv",
        "backbones/{backbone}.safetensors",
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/metrics.json",
        states,
    output:
        measures="runs/{dataset}/{backbone}/{variant}/seed{seed}/kernel.json",
        arrays="runs/{dataset}/{backbone}/{variant}/seed{seed}/kernel.safetensors",
    log:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/kernel.log",
    benchmark:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/kernel.benchmark.tsv"
    threads: threads_each
    resources:
        gpu=int(uses_gpu),
        mem_mb=lambda wildcards, attempt: int(8000 * slurm.growth("mem_mb", attempt)),
        runtime=lambda wildcards, attempt: int(240 * slurm.growth("runtime", attempt)),
    params:
        settings=lambda wildcards: run_of(wildcards).digest,
    message:
        "measure the kernel: {wildcards.variant} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl measure-kernel {wildcards.dataset} {wildcards.backbone} {wildcards.variant} {wildcards.seed}"
        " --device {config[device]} --threads {threads}"


if study.reference:

    rule compare_variants:
        input:
            [run.folder / "metrics.json" for run in runs],
            [run.folder / "kernel.json" for run in measured],
        output:
            multiext("reports/analysis", ".json", ".tex", ".md"),
            in_report("reports/analysis.html"),
        log:
            "reports/logs/compare_variants.log",
        benchmark:
            "reports/logs/compare_variants.benchmark.tsv"
        localrule: True
        params:
            study=config["study"],
            report_digest=report_digest(study),
        message:
            "compare the variants of study {params.study}"
        shell:
            "exec > {log} 2>&1; {HEADING}; ntkcl report compare {params.study}"

    rule analysis_figures:
        input:
            "reports/analysis.json",
            [run.folder / "kernel.safetensors" for run in measured],
        output:
            figure_files(analysis_figures),
        log:
            "reports/logs/analysis_figures.log",
        benchmark:
            "reports/logs/analysis_figures.benchmark.tsv"
        localrule: True
        message:
            "plot the figures of the comparison"
        shell:
            "exec > {log} 2>&1; {HEADING}; ntkcl report figures --analysis"
