#!/usr/bin/env bash
# All that is to be measured on a GPU, in one call:
#   benchmarks/gpu.sh OUT [CHECKOUT]
# OUT is a folder for the numbers; CHECKOUT one of the authors' code (github.com/Programmergg/NTK-CL, commit 24de712), to
# be timed beside ours. What it prints goes to docs/performance.md, with the date.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$1 checkout=${2:-}
mkdir -p "$out"
run() { echo "== $*"; "$@" 2>&1 | tee -a "$out/log.txt"; }
bench=(python -m ntkcl bench --device cuda)

run python -m pytest -q -p no:cacheprovider tests/test_on_gpu.py
run "${bench[@]}" --variant ntk_cl --variant simplecil --precision bfloat16 --precision float32 --json "$out/bench.json"
run "${bench[@]}" --variant ntk_cl --batch 16 --compile default --json "$out/bench_compiled.json"
run "${bench[@]}" --variant ntk_cl --batch 16 --compile reduce-overhead --json "$out/bench_graphs.json"
if [ -n "$checkout" ]; then
  against=(python benchmarks/against.py benchmarks/authors_ntk_cl.py --checkout "$checkout" --device cuda --batch 16)
  run "${against[@]}" --ours-precision bfloat16 --out "$out/against_published.json"
  run "${against[@]}" --ours-precision bfloat16 --theirs-precision bfloat16 --out "$out/against_bfloat16.json"
  run "${against[@]}" --out "$out/against_float32.json"
fi
