#!/usr/bin/env bash
# Checks and times everything that runs on a CUDA device, in one call, and prints a short table last. Builds nothing:
# BINARIES is a folder that tests/gpu-build.sh has filled, here or on another machine.
#   usage: tests/gpu.sh BINARIES [--out DIR] [--golden DIR] [--peer SCRIPT.py] [--only PART,PART]
#
#   --out    where full outputs go, a file a step; a temporary folder unless given
#   --golden a folder of recordings to replay beside those of tests/golden
#   --peer   a PyTorch script to time beside ours, that takes --device, --rule, --credit, --batch and --steps, and
#            --compile; its last line goes into the table
#   --only   some of: tests, determinism, devices, errors, throughput, images, latency, study, rates, peer, memcheck,
#            racecheck, compiled (the peer by --compile, which may take ten minutes)
#
# Exit status: 0 if every step went well, 1 otherwise.
set -uo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
usage() {
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
[ $# -ge 1 ] && [ -x "$1/xtask" ] || usage
bin="$(cd "$1" && pwd)"
shift
out="" peer="" golden=() only="tests,determinism,devices,errors,throughput,images,latency,study,rates,peer,memcheck,racecheck,compiled"
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case "$1" in
        --out) out="$2" ;;
        --golden) golden=("$(cd "$2" && pwd)") || usage ;;
        --peer) peer="$2" ;;
        --only) only="$2" ;;
        *) usage ;;
    esac
    shift 2
done
out="${out:-$(mktemp -d)}"
mkdir -p "$out"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# for the tests that read files of the repository, and for those that skip without a device, which here is a failure
export CARGO_MANIFEST_DIR="$root/tests" PLASTICA_NEEDS_DEVICE=1

# CUDA's libraries, where the loader does not know them by itself: an installed toolkit's, or those of Python's wheels
if ! ldconfig -p 2>/dev/null | grep -q 'libcublas\.so\.1'; then
    for folder in "${CUDA_PATH:-/usr/local/cuda}/lib64" /usr/local/cuda/lib64 \
        $(python3 -c 'import nvidia, glob; print(*sum((glob.glob(p + "/**/lib", recursive=True) for p in nvidia.__path__), []))' 2>/dev/null); do
        [ -d "$folder" ] && export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    done
fi

table="" failed=0
row() { table+="$(printf '%-44s %s' "$1" "$2")"$'\n'; }

# step NAME SECONDS COMMAND...: its output goes to a file; gives whether it went well, and leaves the file's name in $log.
step() {
    local name="$1" limit="$2" begin=$SECONDS status=0
    shift 2
    log="$out/$(echo "$name" | tr -c 'A-Za-z0-9.\n' '-').log"
    # in the background, as a shell puts a signal off to the end of what it waits for otherwise
    timeout "$limit" "$@" >"$log" 2>&1 &
    wait $! || status=$?
    echo "$name: status $status, $((SECONDS - begin)) s"
    [ $status -eq 0 ] || { failed=1; tail -5 "$log"; }
    return $status
}

# check NAME SECONDS COMMAND...: a step whose row is whether it went well.
check() { if step "$@"; then row "$1" ok; else row "$1" "FAILED: $(grep -m1 -aE 'error|panicked|FAIL' "$log" | cut -c1-110)"; fi; }

# same NAME FOLDER FOLDER: whether two folders of results are the same but for what says how long they took.
same() {
    if diff -rq -x '*.timing.json' -x .lock -x 'report.*' "$2" "$3" >"$out/same-$(basename "$3").log" 2>&1; then row "$1" ok; else
        row "$1" "FAILED: $(head -1 "$out/same-$(basename "$3").log")"
        failed=1
    fi
}

# field NAME: a number or a text out of the last result in $log.
field() { grep -a '"event":"result"' "$log" | tail -1 | sed -nE "s/.*\"$1\":(\"([^\"]*)\"|([^,}]*)).*/\2\3/p"; }

# The table, and the end.
finish() {
    echo
    printf '%s' "$table"
    [ $failed -eq 0 ] && echo "$1" || echo "some steps FAILED; their outputs are in $out"
    exit $failed
}
trap 'failed=1; finish' INT TERM

wanted() { case ",$only," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }
tiny=(--task copying --set model.model_dim=32 --set model.ffn_dim=64 --set training.epochs=1
    --set training.dataset_size=64 --set training.eval_episodes=16 --set training.batch_size=16 --set training.credit=full)

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null

if wanted tests; then
    check "kernels against the CPU" 240 "$bin/tensor-tests"
    check "20 configurations, recordings" 240 "$bin/model-tests" --nocapture --test-threads 1 on_cuda
    grep -aE 'values|holds' "$log"
    for folder in "$root/tests/golden" ${golden[@]+"${golden[@]}"}; do
        check "recordings of $(basename "$(dirname "$folder")")/$(basename "$folder")" 120 "$bin/xtask" parity "$folder" --device cuda
    done
fi

if wanted determinism; then
    for rule in none hebbian gradient; do
        for turn in 1 2; do
            step "train $rule, turn $turn" 60 "$bin/xtask" --quiet train "${tiny[@]}" --rule $rule --device cuda --out "$work/$rule-$turn"
        done
        same "$rule twice, the same bytes" "$work/$rule-1" "$work/$rule-2"
    done
fi

if wanted devices; then
    run=(--quiet train "${tiny[@]}" --set training.dataset_size=100000 --rule hebbian --out "$work/moved" --checkpoint-every 0.5)
    # from one device to the other and back, stopped each time: by the signal it ends with 130, which timeout tells as 124;
    # in the foreground, as timeout sends the signal twice otherwise, and the second one ends a run at once
    moves=(cuda cpu cuda)
    for turn in 0 1 2; do
        device="${moves[$turn]}" resume=() status=0 log="$out/moved-$turn.log"
        [ "$turn" -eq 0 ] || resume=(--resume)
        timeout --foreground -s INT 8 "$bin/xtask" "${run[@]}" ${resume[@]+"${resume[@]}"} --device "$device" >"$log" 2>&1 || status=$?
        if [ $status -eq 124 ] && grep -aq 'stopped by SIGINT' "$log" && { [ "$turn" -eq 0 ] || grep -aq "goes on on $device" "$log"; }; then
            row "stopped, turn $turn, on $device" ok
        else
            row "stopped, turn $turn, on $device" "FAILED: status $status: $(head -c 100 "$log")"
            failed=1
        fi
    done
    step "train for both" 60 "$bin/xtask" --quiet train "${tiny[@]}" --rule gradient --device cuda --out "$work/both"
    losses=()
    for device in cpu cuda; do
        step "eval on $device" 60 "$bin/xtask" --json eval "$work"/both/*.safetensors --task copying --episodes 64 --device $device
        losses+=("$(field loss)")
        row "a checkpoint of cuda on $device, loss" "${losses[-1]}"
    done
    if ! awk -v a="${losses[0]}" -v b="${losses[1]}" 'BEGIN { d = a - b; exit !(a > 0 && d * d <= 1e-8 * a * a) }'; then
        row "  which are the same to 1e-4" "FAILED"
        failed=1
    fi
fi

# refuses NAME TEXT COMMAND...: it fails with status 1, says TEXT, and leaves no folder behind.
refuses() {
    local status=0
    timeout 120 "${@:3}" --out "$work/refused" >"$out/refused.log" 2>&1 || status=$?
    if [ $status -eq 1 ] && grep -aqF "$2" "$out/refused.log" && [ ! -e "$work/refused" ]; then row "$1" ok; else
        row "$1" "FAILED: status $status: $(head -c 100 "$out/refused.log")"
        failed=1
    fi
}

if wanted errors; then
    refuses "a device that is not there" "there is no such device" "$bin/xtask" --quiet train "${tiny[@]}" --rule hebbian --device cuda:4096
    refuses "no device to be seen" "there is no CUDA device" env CUDA_VISIBLE_DEVICES= "$bin/xtask" --quiet train "${tiny[@]}" --rule hebbian --device cuda
    # parameters and every buffer fit, the fast weights of all 96 layers do not: 412 GB, and their gradients as much
    status=0
    timeout 120 "$bin/xtask" bench throughput --device cuda --rule hebbian --credit full --batch 1024 --steps 1 --no-ceilings --set task.delay=40 \
        --set model.model_dim=512 --set model.ffn_dim=2048 --set model.num_layers=48 >"$out/full.log" 2>&1 || status=$?
    if [ $status -eq 1 ] && grep -aq 'its memory is full' "$out/full.log"; then row "too little memory" ok; else
        row "too little memory" "FAILED: status $status: $(grep -a -m1 error "$out/full.log" | cut -c1-100)"
        failed=1
    fi
fi

# throughput NAME ARGUMENTS...
throughput() {
    local name="$1"
    shift
    if step "$name" 120 "$bin/xtask" --json bench throughput --device cuda "$@"; then
        row "$name" "$(printf '%10.4f ms a sequence %9.1f a second %8.0f MB' "$(field ms_per_sequence)" "$(field sequences_per_second)" "$(field peak_megabytes)")"
    else
        row "$name" "FAILED: $(grep -m1 -a error "$log" | cut -c1-110)"
    fi
}

if wanted throughput; then
    throughput "ceilings" --batch 64 --steps 3
    row "  device" "$(field device)"
    row "  f32 product, flop/s" "$(field matmul_flops)"
    row "  copy, bytes read and written/s" "$(field copy_bytes)"
    for rule in hebbian gradient none; do
        for batch in 64 512 2048 8192 16384; do
            throughput "$rule full, batch $batch" --rule $rule --credit full --batch $batch --steps $((batch > 2048 ? 4 : 8)) --no-ceilings
        done
    done
fi

if wanted images; then
    for rule in hebbian gradient; do
        throughput "few-shot images, $rule, batch 16" --task cifar-fs --rule $rule --credit full --batch 16 --steps 6 --no-ceilings \
            --set task.data=glyphs --set task.ways=5 --set task.shots=1
    done
fi

if wanted latency; then
    step "latency" 60 "$bin/xtask" --json bench latency --rule hebbian --steps 500 --device cuda
    row "one step of one episode, hebbian, µs" "$(field median_us)"
fi

if wanted study; then
    for jobs in 1 2 4 8; do
        step "study, $jobs jobs" 120 "$bin/xtask" --quiet --json reproduce --protocol smoke --seeds 4 --task copying --task cue-reward \
            --task regression --jobs $jobs --device cuda --out "$work/study-$jobs"
        row "36 short runs, $jobs at once, s" "$(field wall_seconds)"
        [ $jobs -eq 1 ] || same "  the same bytes as one at once" "$work/study-1" "$work/study-$jobs"
    done
fi

if wanted rates; then
    step "rates" 120 "$bin/rates"
    while IFS= read -r line; do table+="$line"$'\n'; done <"$log"
fi

if wanted peer && [ -n "$peer" ]; then
    for rule in hebbian gradient; do
        for batch in 64 512 1024 1408; do
            step "peer $rule, batch $batch" 120 python3 "$peer" --device cuda --rule $rule --credit full --batch $batch --steps 5
            row "peer $rule, batch $batch" "$(tail -1 "$log" | cut -c1-110)"
        done
    done
fi

# sanitized TOOL NAME FILTER...: the small cases of the kernels under one of compute-sanitizer's tools.
sanitized() {
    check "compute-sanitizer $1, $2" 400 compute-sanitizer --tool "$1" --error-exitcode 9 "$bin/tensor-tests" --test-threads 1 \
        "${@:3}" --skip fast_weights_along_sequences --skip layer_normalisation
    if ! grep -aqE '^test result: ok\. [1-9]' "$log"; then
        row "  of which no test has passed" "FAILED"
        failed=1
    fi
}

for tool in memcheck racecheck; do
    wanted $tool || continue
    if ! command -v compute-sanitizer >/dev/null; then
        row "compute-sanitizer $tool" "FAILED: it is not installed"
        failed=1
        continue
    fi
    sanitized $tool operations blocks_in_evaluation second_derivatives operations::rows moving_elements optimisers::optimisers
    sanitized $tool attention attention::
    sanitized $tool layers layers::
    sanitized $tool "fast weights" fast::
done

if wanted compiled && [ -n "$peer" ]; then
    for rule in hebbian gradient; do
        # PyTorch may refuse to compile it, or take longer than that: a result, and not a failure of ours
        log="$out/peer-$rule-compiled.log" status=0
        timeout 600 python3 "$peer" --device cuda --rule $rule --credit full --batch 512 --steps 5 --compile >"$log" 2>&1 || status=$?
        row "peer $rule compiled, batch 512" "status $status: $(tail -1 "$log" | cut -c1-110)"
    done
fi

finish "every step went well"
