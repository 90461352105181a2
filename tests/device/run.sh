#!/usr/bin/env bash
# Everything that needs a GPU, in one go; a short table last.
#   bash tests/device/run.sh            builds here and runs here: on a machine with a GPU
#   bash tests/device/run.sh build DIR  builds stripped programs into DIR, to be carried to a machine with a GPU
#   bash DIR/run.sh run [OUT]           runs the carried programs there; raw results go to OUT
# RINGFLEET_REQUIRE_GPU=1 is set while it runs: what cannot run fails. What needs two GPUs fails without them if RINGFLEET_REQUIRE_GPUS=2 is
# given, what needs NVSHMEM if RINGFLEET_REQUIRE_NVSHMEM=1 is.
set -uo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

tests=(cuda cuda_process cuda_group cuda_flights cuda_graph cuda_txmon failures)

build() {
    local to="$1" repository profile=()
    repository="$(cd "$here/../.." && pwd)"
    mkdir -p "$to"
    to="$(cd "$to" && pwd)"
    cd "$repository" || exit 1
    [[ -n "${RINGFLEET_DEV_BUILD:-}" ]] || profile=(--release)
    cargo build "${profile[@]}" -p ringfleet --bin ringfleet --message-format=json |
        python3 "$here/artifacts.py" ringfleet "$to" || exit 1
    cargo test "${profile[@]}" -p ringfleet-gpu "${tests[@]/#/--test=}" --no-run --message-format=json |
        python3 "$here/artifacts.py" "$(IFS=, && echo "${tests[*]}")" "$to" || exit 1
    strip "$to"/ringfleet "${tests[@]/#/$to/}"
    cp "$here/run.sh" "$to/"
    git rev-parse HEAD >"$to/commit"
    ls -l "$to"
}

rows=()
failed=0
# step NAME COMMAND...: its output goes to the results and its outcome to the table.
step() {
    local name="$1" begun=$SECONDS
    shift
    echo "== $name"
    if "$@" >"$out/$name.txt" 2>&1; then
        rows+=("$(printf '%-28s ok     %4d s' "$name" $((SECONDS - begun)))")
    else
        rows+=("$(printf '%-28s FAILED %4d s' "$name" $((SECONDS - begun)))")
        failed=1
    fi
    tail -n 12 "$out/$name.txt"
}

# NVRTC comes with the toolkit, or with wheels for Python.
libraries() {
    python3 - 2>/dev/null <<'PYTHON'
import glob, sys
print(":".join(d for p in sys.path for part in ("cu13", "cuda_nvrtc", "nvshmem") for d in glob.glob(f"{p}/nvidia/{part}/lib")))
PYTHON
}

run() {
    out="${1:-results}"
    mkdir -p "$out"
    out="$(cd "$out" && pwd)"
    export RINGFLEET_REQUIRE_GPU=1
    LD_LIBRARY_PATH="$(libraries):/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
    export LD_LIBRARY_PATH
    export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$out/../cache}"
    { date -u; cat "$here/commit" 2>/dev/null; nvidia-smi -L; nvidia-smi --query-gpu=driver_version --format=csv,noheader; } >"$out/machine.txt" 2>&1
    step doctor timeout 30 "$here/ringfleet" doctor --devices gpu:0
    local test gpus all=gpu:0
    for test in "${tests[@]}"; do
        step "$test" timeout 240 "$here/$test" --test-threads 1 --nocapture
    done
    step bench timeout 180 "$here/ringfleet" bench device --devices gpu:0
    gpus=$(nvidia-smi -L | wc -l)
    if ((gpus > 1)); then
        all="gpu:$(seq -s, 0 $((gpus - 1)))"
        step bench-group timeout 180 "$here/ringfleet" bench device --devices "$all" --actors 131072,1048576,2097152,4194304,16777216
        if [[ -n "${RINGFLEET_REQUIRE_NVSHMEM:-}" ]] || "$here/ringfleet" doctor --devices "$all" --fabric nvshmem >"$out/doctor-nvshmem.txt" 2>&1; then
            step bench-nvshmem timeout 180 "$here/ringfleet" bench device --devices "$all" --fabric nvshmem --actors 131072,2097152
        fi
    fi
    step bench-json timeout 120 "$here/ringfleet" bench device --devices gpu:0 --actors 131072,1048576 -o json
    step demo timeout 120 "$here/ringfleet" demo --nodes 1 --devices "$all"
    step demo-graph timeout 120 "$here/ringfleet" demo --app graph --nodes 1 --devices "$all"
    step demo-txmon timeout 120 "$here/ringfleet" demo --app txmon --nodes 1 --devices "$all"
    echo
    echo "== $(tr '\n' ' ' <"$out/machine.txt")"
    printf '%s\n' "${rows[@]}"
    return "$failed"
}

case "${1:-all}" in
build) build "${2:?a folder}" ;;
run) run "${2:-}" ;;
all)
    to="$here/../../target/device"
    build "$to"
    here="$(cd "$to" && pwd)"
    run "$to/results"
    ;;
*)
    sed -n '2,6p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
