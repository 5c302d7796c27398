def states(wildcards):
    """Return the states of all tasks of a run."""
    run = run_of(wildcards)
    return [run.state_path(task.index) for task in run.tasks]


rule evaluate_run:
    input:
        "data/{dataset}/manifest.csv",
        "backbones/{backbone}.safetensors",
        states,
    output:
        predictions="runs/{dataset}/{backbone}/{variant}/seed{seed}/predictions.csv.gz",
        metrics="runs/{dataset}/{backbone}/{variant}/seed{seed}/metrics.json",
    log:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/evaluate.log",
    benchmark:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/evaluate.benchmark.tsv"
    threads: threads_each * max(1, gpus_each)
    resources:
        gpu=gpus_each,
        mem_mb=lambda wildcards, attempt: int(8000 * slurm.growth("mem_mb", attempt) * max(1, gpus_each)),
        runtime=lambda wildcards, attempt: int(
            cost.evaluation_minutes(run_of(wildcards)) * slurm.growth("runtime", attempt)
        ),
    params:
        settings=lambda wildcards: run_of(wildcards).digest,
    message:
        "evaluate: {wildcards.variant} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "exec > {log} 2>&1; {HEADING}; {NTKCL} evaluate {wildcards.dataset} {wildcards.backbone} {wildcards.variant} {wildcards.seed}"
        " --device {config[device]} --threads {threads}"


def seeds_of(wildcards):
    """Return the runs of the study that differ in their seed only: a group of W&B."""
    names = (wildcards.dataset, wildcards.backbone, wildcards.variant)
    return [run for run in runs if (run.dataset_name, run.backbone_name, run.variant) == names]


# One process for all seeds: starting W&B takes longer than logging a run. The command logs what is not logged yet.
rule log_wandb:
    input:
        lambda wildcards: [run.folder / "metrics.json" for run in seeds_of(wildcards)],
    output:
        "runs/{dataset}/{backbone}/{variant}/wandb.done",
    log:
        "runs/{dataset}/{backbone}/{variant}/wandb.log",
    benchmark:
        "runs/{dataset}/{backbone}/{variant}/wandb.benchmark.tsv"
    params:
        folders=lambda wildcards: [run.folder for run in seeds_of(wildcards)],
    message:
        "log to W&B: {wildcards.variant} on {wildcards.dataset}"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl log-wandb {params.folders} && touch {output}"
