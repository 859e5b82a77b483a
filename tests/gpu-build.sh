#!/usr/bin/env bash
# Builds what tests/gpu.sh runs, and collects it in a folder. Needs a CUDA toolkit (docs/cuda.md), but no GPU.
#   usage: tests/gpu-build.sh BINARIES
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
into="$(mkdir -p "$1" && cd "$1" && pwd)"
cd "$root"

# The one executable that a cargo command builds.
built() {
    "$@" --profile release --features cuda --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

collect() {
    local file
    file="$(built "${@:2}")"
    cp "$file" "$into/$1"
    strip "$into/$1"
}

collect xtask cargo build --package xtask
collect tensor-tests cargo test --no-run --package plastica-tensor --test cuda
collect model-tests cargo test --no-run --package plastica-tests --test it
collect rates cargo bench --no-run --package plastica-tensor --bench cuda
ls -l "$into"
