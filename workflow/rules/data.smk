rule fetch_data:
    output:
        "data/{dataset}/source.json",
    log:
        "data/{dataset}/fetch.log",
    benchmark:
        "data/{dataset}/fetch.benchmark.tsv"
    # no params: a changed address of the same files must not rerun the jobs that use them
    message:
        "fetch: {wildcards.dataset} (progress in {log})"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl data fetch {wildcards.dataset}"


rule prepare_data:
    input:
        lambda wildcards: f"data/{wildcards.dataset}/source.json" if load_dataset(wildcards.dataset).files else [],
    output:
        images="data/{dataset}/images.safetensors",
        manifest="data/{dataset}/manifest.csv",
    log:
        "data/{dataset}/log.txt",
    benchmark:
        "data/{dataset}/benchmark.tsv"
    threads: threads_each
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        settings=lambda wildcards: dataset_digest(wildcards.dataset),
    message:
        "data: {wildcards.dataset}"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl data prepare {wildcards.dataset} --threads {threads}"
