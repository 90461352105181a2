#!/bin/sh
# Runs the random handlers of tests/programs on a GPU and compares with what native code did, bit for bit. The differential test leaves a
# folder per part: text, input and output. Needs nvcc 13 and a GPU.
# usage: programs.sh FOLDER...    such as target/tmp/random_*
set -u
failed=0
for folder in "$@"; do
    (
        nvcc -x cu -std=c++17 -arch=native -fmad=false -w -o "/tmp/$(basename "$folder").gpu" "$folder/main.cpp" >"/tmp/$(basename "$folder").log" 2>&1
    ) &
done
wait
for folder in "$@"; do
    name=$(basename "$folder")
    if ! [ -x "/tmp/$name.gpu" ]; then
        echo "$name: does not compile"
        head -20 "/tmp/$name.log"
        failed=1
    elif "/tmp/$name.gpu" <"$folder/input" >"/tmp/$name.out" && cmp "/tmp/$name.out" "$folder/output"; then
        echo "$name: $(grep -c 'RF_FN u32 handle' "$folder/main.cpp") types, $(wc -c <"$folder/output") bytes of results, equal"
    else
        echo "$name: DIFFERENT"
        failed=1
    fi
done
exit $failed
