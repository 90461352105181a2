#!/usr/bin/env bash
# Runs handlers on a GPU and compares with what native code did, bit for bit: the random ones of tests/programs, the shipped actors on random
# messages, `graph` and `txmon` on the messages of a whole computation, enums, random numbers, and the transcendental functions. The tests that
# compare native code with programs and with device code on the host leave a folder each: text, input and output. A short table last; what
# differs, what does not compile, and that nothing was there to be compared, is a failure.
#   bash tests/device/programs.sh            runs those tests here and the GPU here: needs nvcc 13 and a GPU
#   bash tests/device/programs.sh build DIR  runs those tests here, gathers their folders in DIR, to be carried to a machine with a GPU
#   bash DIR/programs.sh run [DIR]           runs the carried ones there
set -uo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

build() {
    local to="$1" repository from folder
    repository="$(cd "$here/../.." && pwd)"
    mkdir -p "$to"
    to="$(cd "$to" && pwd)"
    cd "$repository" || exit 1
    from="${CARGO_TARGET_DIR:-target}/tmp"
    # What earlier runs left may be of another generator.
    rm -f "$from"/*/counts "$to"/*/counts
    RINGFLEET_MUST_RUN=1 cargo test -p ringfleet-program-tests --test differential || exit 1
    RINGFLEET_MUST_RUN=1 cargo test -p ringfleet-actors --test device_code || exit 1
    for folder in "$from"/*/; do
        if [[ -f "$folder/counts" ]]; then
            mkdir -p "$to/$(basename "$folder")"
            cp "$folder"/{main.cpp,*.cuh,*.h,counts,input,output} "$to/$(basename "$folder")/"
        fi
    done
    cp "$here/programs.sh" "$to/"
    git rev-parse HEAD >"$to/commit"
    du -sh "$to"
}

# compare FOLDER: compiles its text for this GPU, and writes a row of the table.
compare() {
    local folder="$1" name types handlers streams messages begun=$SECONDS verdict=DIFFERENT
    name=$(basename "$folder")
    read -r types handlers streams messages <"$folder/counts"
    if ! nvcc -x cu -std=c++17 -arch=native -fmad=false -w -o "$work/$name.gpu" "$folder/main.cpp" >"$work/$name.log" 2>&1; then
        verdict="DOES NOT COMPILE"
        head -20 "$work/$name.log" >&2
    elif ! "$work/$name.gpu" <"$folder/input" >"$work/$name.out"; then
        verdict="DID NOT RUN"
    elif [[ -s "$folder/output" ]] && cmp "$work/$name.out" "$folder/output" >&2; then
        verdict=equal
    fi
    printf '%s %s %s %s %s %s %s %s\n' "$name" "$types" "$handlers" "$streams" "$messages" "$(wc -c <"$folder/output")" \
        $((SECONDS - begun)) "$verdict" >"$work/$name.row"
}

run() {
    local from="$1" folder
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    { nvidia-smi -L && nvcc --version | tail -n 2; cat "$from/commit"; } 2>/dev/null
    for folder in "$from"/*/; do
        [[ -f "$folder/counts" ]] || continue
        while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n; done
        compare "${folder%/}" &
    done
    wait
    cat "$work"/*.row 2>/dev/null | sort -V | awk '
        BEGIN { line = "%-12s %6s %9s %8s %9s %10s %6s  %s\n"
                printf line, "", "types", "handlers", "streams", "messages", "bytes", "s", "" }
        { verdict = $8; for (i = 9; i <= NF; i++) verdict = verdict " " $i
          printf line, $1, $2, $3, $4, $5, $6, $7, verdict
          if (verdict == "equal") { t += $2; h += $3; s += $4; m += $5; b += $6 } else bad++ }
        END { printf line, "all equal", t + 0, h + 0, s + 0, m + 0, b + 0, "", bad ? bad " NOT EQUAL" : NR " folders"
              if (NR == 0) print "nothing was compared"
              exit bad > 0 || m == 0 }'
}

case "${1:-all}" in
build) build "${2:?a folder}" ;;
run) run "${2:-$here}" ;;
all)
    to="$here/../../target/programs"
    build "$to" && run "$to"
    ;;
*)
    sed -n '2,9p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
