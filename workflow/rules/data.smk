rule prepare_data:
    output:
        images="data/{dataset}/images.safetensors",
        manifest="data/{dataset}/manifest.csv",
    log:
        "data/{dataset}/log.txt",
    benchmark:
        "data/{dataset}/benchmark.tsv"
    params:
        settings=lambda wildcards: dataset_digest(wildcards.dataset),
    message:
        "data: {wildcards.dataset}"
    shell:
        "ntkcl data prepare {wildcards.dataset} > {log} 2>&1"
