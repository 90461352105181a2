#!/usr/bin/env bash
# `hop` written in Rust (kernels/actors/src/hop.rs) against `hop` written by hand (kernels/device/types/hop.cuh) in the same kernel, in turns, on one
# GPU: a table of the best of five runs each last; below 90 %, and where a run's own check of its counters fails, it fails.
#   bash tests/device/hop.sh            builds here and runs here: needs a GPU and NVRTC 13
#   bash tests/device/hop.sh build DIR  builds the stripped bench into DIR, to be carried to a machine with a GPU
#   bash DIR/hop.sh run                 runs the carried one there
set -uo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
runs=5
floor_percent=90

build() {
    local to="$1" repository profile=release
    repository="$(cd "$here/../.." && pwd)"
    mkdir -p "$to"
    to="$(cd "$to" && pwd)"
    cd "$repository" || exit 1
    [[ -z "${RINGFLEET_DEV_BUILD:-}" ]] || profile=dev
    cargo build --profile "$profile" -p ringfleet-gpu --example cuda_bench || exit 1
    cp "${CARGO_TARGET_DIR:-target}/${profile/dev/debug}/examples/cuda_bench" "$here/hop.sh" "$to/"
    strip "$to/cuda_bench"
    git rev-parse HEAD >"$to/commit"
}

# NVRTC comes with the toolkit, or with wheels for Python.
libraries() {
    python3 - 2>/dev/null <<'PYTHON'
import glob, sys
print(":".join(d for p in sys.path for part in ("cu13", "cuda_nvrtc") for d in glob.glob(f"{p}/nvidia/{part}/lib")))
PYTHON
}

run() {
    local scenario how lines
    lines="$(mktemp)"
    LD_LIBRARY_PATH="$(libraries):/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
    export LD_LIBRARY_PATH CUDA_MODULE_LOADING=EAGER
    { nvidia-smi -L; cat "$here/commit"; } 2>/dev/null
    for ((at = 0; at < runs; at++)); do
        for scenario in hop,n=1048576,left=2000 hop,n=131072,left=10000; do
            for how in "" ,rust; do
                timeout 60 "$here/cuda_bench" "$scenario$how" || echo "$scenario$how: exit code $?"
            done
        done
    done | tee "$lines"
    awk -v floor="$floor_percent" -v runs="$runs" '
        /^NVIDIA/ { next }
        !/\[ok\]/ { print "a run failed: " $0; bad = 1; next }
        { name = $1; rust = sub(/,rust$/, "", name)
          for (i = 2; i <= NF; i++) if ($i == "G" && $(i + 1) ~ /^msg/) rate = $(i - 1)
          if (rust) { if (rate > r[name]) r[name] = rate } else if (rate > h[name]) h[name] = rate
          seen[name, rust]++; names[name] }
        END { printf "%-28s %12s %12s %8s\n", "best of " runs ", G msg/s", "by hand", "Rust", "%"
              for (name in names) {
                  of = h[name] > 0 ? 100 * r[name] / h[name] : 0
                  printf "%-28s %12.3f %12.3f %8.1f %s\n", name, h[name], r[name], of, of < floor ? "TOO SLOW" : "ok"
                  if (of < floor || seen[name, 0] != runs || seen[name, 1] != runs) bad = 1
                  count++ }
              exit bad || count != 2 }' "$lines"
}

case "${1:-all}" in
build) build "${2:?a folder}" ;;
run) run ;;
all)
    to="$here/../../target/hop"
    build "$to"
    here="$(cd "$to" && pwd)"
    run
    ;;
*)
    sed -n '2,6p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
