#!/usr/bin/env bash
# All that is to be measured on a GPU, in one call:
#   benchmarks/gpu.sh OUT [CHECKOUT]
# OUT is a folder for the numbers; CHECKOUT, if given, is one of the authors' code (github.com/Programmergg/NTK-CL, commit
# 24de712), to be timed beside ours. What it prints goes to docs/performance.md.
set -uo pipefail
: "${1:?usage: benchmarks/gpu.sh OUT [CHECKOUT]}"
out=$(realpath -m "$1") checkout=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
python -c 'import sys, torch; sys.exit(not torch.cuda.is_available() and "no GPU that torch can use; nothing was measured")' || exit 1
mkdir -p "$out"
failed=0
run() {
  echo "== $*"
  "$@" 2>&1 || { echo "failed: $*" && failed=1; }
}
bench=(python -m ntkcl bench --device cuda)
against=(python benchmarks/against.py benchmarks/official/ntk_cl.py --checkout "$checkout" --device cuda --batch 16)

{
  date
  git rev-parse HEAD
  nvidia-smi -L
  run python -m pytest -q -p no:cacheprovider tests/training/test_on_gpu.py tests/training/test_methods_on_gpu.py
  run "${bench[@]}" --variant ntk_cl --variant simplecil --precision bfloat16 --precision float32 --json "$out/bench.json"
  run "${bench[@]}" --batch 16 --compile default --json "$out/bench_compiled.json"
  run "${bench[@]}" --batch 16 --compile reduce-overhead --json "$out/bench_graphs.json"
  if [ -n "$checkout" ]; then
    run "${against[@]}" --ours-precision bfloat16 --out "$out/against_published.json"
    run "${against[@]}" --ours-precision bfloat16 --theirs-precision bfloat16 --out "$out/against_bfloat16.json"
    run "${against[@]}" --out "$out/against_float32.json"
  fi
} > >(tee "$out/log.txt") 2>&1
exit $failed
