def run_of(wildcards):
    """Return the run of these wildcards."""
    return resolve(wildcards.dataset, wildcards.backbone, wildcards.variant, int(wildcards.seed))


def previous_state(wildcards):
    """Return the state of the task before, if there is one."""
    task = int(wildcards.task)
    return run_of(wildcards).state_path(task - 1) if task else []


rule train_task:
    input:
        "data/{dataset}/manifest.csv",
        "backbones/{backbone}.safetensors",
        previous_state,
    output:
        state="runs/{dataset}/{backbone}/{variant}/seed{seed}/task{task}/state.safetensors",
        losses="runs/{dataset}/{backbone}/{variant}/seed{seed}/task{task}/losses.csv",
    log:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/task{task}/log.txt",
    benchmark:
        "runs/{dataset}/{backbone}/{variant}/seed{seed}/task{task}/benchmark.tsv"
    threads: threads_each * max(1, gpus_each)
    resources:
        gpu=gpus_each,
        mem_mb=lambda wildcards, attempt: int(8000 * slurm.growth("mem_mb", attempt) * max(1, gpus_each)),
        runtime=lambda wildcards, attempt: int(
            cost.training_minutes(run_of(wildcards), int(wildcards.task)) * slurm.growth("runtime", attempt)
        ),
    params:
        settings=lambda wildcards: run_of(wildcards).digest,
    message:
        "train: {wildcards.variant} on {wildcards.dataset}, seed {wildcards.seed}, task {wildcards.task}"
    shell:
        "exec > {log} 2>&1; {HEADING}; {NTKCL} train {wildcards.dataset} {wildcards.backbone} {wildcards.variant} {wildcards.seed}"
        " --task {wildcards.task} --device {config[device]} --threads {threads}"
