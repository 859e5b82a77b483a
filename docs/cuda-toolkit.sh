#!/usr/bin/env bash
# Lays out what of a CUDA 13.0 toolkit a build with the feature `cuda` needs, from public Python wheels: for a machine
# that has no toolkit, with or without a GPU.
#   usage: docs/cuda-toolkit.sh FOLDER        then: source FOLDER/env.sh && cargo xtask-cuda ...
# Needs python3 with pip, and gcc. CUDA_CAP names the compute capability to build for, 9.0 (Hopper) unless given.
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root="$(cd "$(dirname "$0")/.." && pwd)"
folder="$(mkdir -p "$1" && cd "$1" && pwd)"

wheels="$folder/wheels"
python3 -m pip download --quiet --no-deps --dest "$wheels" \
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 \
    nvidia-cuda-runtime==13.0.88 nvidia-cuda-nvrtc==13.0.88 nvidia-cublas==13.0.2.14 nvidia-curand==10.4.0.35
for wheel in "$wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$folder"; done
rm -r "$wheels"
toolkit="$folder/nvidia/cu13"
chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*

# names without versions, as the linker looks for them
ln -sfn lib "$toolkit/lib64"
for library in cublas.so.13 cublasLt.so.13 curand.so.10 nvrtc.so.13 cudart.so.13; do
    ln -sf "lib$library" "$toolkit/lib/lib${library%.*}"
done

# The driver's library comes with the driver. Its names are enough to link with: those that cudarc declares.
(cd "$root" && cargo fetch --quiet)
sources="${CARGO_HOME:-$HOME/.cargo}/registry/src"
sed -n 's/.*pub fn \(cu[A-Za-z0-9_]*\).*/int \1(void) { return 999; }/p' "$sources"/*/cudarc-0.9*/src/driver/sys.rs |
    sort -u >"$folder/names.c"
gcc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$toolkit/lib/libcuda.so" "$folder/names.c"

# dfdx's build asks nvidia-smi for the compute capability
mkdir -p "$folder/bin"
printf '#!/bin/sh\necho compute_cap\necho %s\n' "${CUDA_CAP:-9.0}" >"$folder/bin/nvidia-smi"
chmod +x "$folder/bin/nvidia-smi"

# shellcheck disable=SC2016 # expanded where it is read
printf 'export CUDA_PATH=%q PATH=%q:$PATH NVCC_PREPEND_FLAGS=%q\nexport LD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n' \
    "$toolkit" "$folder/bin:$toolkit/bin" "-I$toolkit/include" "$folder/run" >"$folder/env.sh"
# what is needed where it runs, apart from the linker's names
mkdir -p "$folder/run"
for library in cublas.so.13 cublasLt.so.13 nvrtc.so.13 nvrtc-builtins.so.13.0; do
    ln -sf "$toolkit/lib/lib$library" "$folder/run/lib$library"
done

"$toolkit/bin/nvcc" --version | tail -1
echo "source $folder/env.sh"
