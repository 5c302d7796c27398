def states(wildcards):
    """The states of all tasks of a run."""
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
        mem_mb=lambda wildcards, attempt: 8000 * attempt * max(1, gpus_each),
        runtime=lambda wildcards, attempt: cost.evaluation_minutes(run_of(wildcards)) * attempt,
    params:
        settings=lambda wildcards: run_of(wildcards).digest,
    message:
        "evaluate: {wildcards.variant} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "{NTKCL} evaluate {wildcards.dataset} {wildcards.backbone} {wildcards.variant} {wildcards.seed}"
        " --device {config[device]} --threads {threads} > {log} 2>&1"


rule track_run:
    input:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/metrics.json",
    output:
        directory("runs/{dataset}/{backbone}/{variant}/seed{seed}/wandb"),
    log:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/track.log",
    benchmark:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/track.benchmark.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "log to W&B: {wildcards.variant} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        "ntkcl log-wandb {wildcards.dataset} {wildcards.backbone} {wildcards.variant} {wildcards.seed} > {log} 2>&1"
