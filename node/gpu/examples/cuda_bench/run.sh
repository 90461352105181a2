#!/bin/sh
# Builds the GPU bench, runs every scenario in a process of its own, and prints their lines. Needs a GPU, its driver and NVRTC 13.
# usage: run.sh [BINARY]    a binary that was built elsewhere, such as target/release/examples/cuda_bench
set -eu
binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --release -p ringfleet-gpu --example cuda_bench
    binary=target/release/examples/cuda_bench
fi
export CUDA_MODULE_LOADING=EAGER
failed=0
for scenario in \
    baseline \
    hop,n=1048576,left=3000 hop,n=131072,left=20000 hop,n=4194304,left=300 hop,n=16777216,left=60,ring=2048 \
    hop,n=1048576,left=1000,hashed hop,n=131072,left=5000,hashed \
    hop,n=1048576,left=2000,order=0 hop,n=1048576,left=2000,hlc=0 \
    hot,n=1048576,left=1000 hot,n=1048576,left=400,hot=64,spread hot,n=1048576,left=400,hot=64 \
    relay,n=262144,left=1000,burst=1 relay,n=262144,left=1000,burst=4,ring=128 \
    idle,left=50000,n=131072 ask,n=131072 ingress,n=131072 tell,n=131072; do
    "$binary" "$scenario" || failed=1
done
# Two GPUs of this machine, half of the messages over NVLink.
if [ "$(nvidia-smi --list-gpus | wc -l)" -ge 2 ]; then
    for scenario in \
        hop,n=2097152,left=3000,gpus=2 hop,n=2097152,left=1000,hashed,gpus=2 \
        relay,n=524288,left=2100,burst=1,gpus=2,limit=12 relay,n=524288,left=500,burst=4,ring=128,gpus=2,limit=12; do
        "$binary" "$scenario" || failed=1
    done
fi
# Bounded mode under compute-sanitizer, where that is installed.
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
        for scenario in hop,n=4096,left=3 relay,n=2048,left=4,burst=3,ring=16; do
            compute-sanitizer --tool "$tool" --error-exitcode 9 \
                "$binary" "$scenario,workers=4,t=160,b=160,spill=8192,rounds=8000" || failed=1
        done
    done
fi
exit $failed
