#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds the kernels with CUDA, holds them against the reference on the GPU, measures them and
# leaves the numbers in benchmarks/, named for the device. Elsewhere it says what is missing and fails.
#
#   tools/gpu_check.sh            PYTHON=python3.12 tools/gpu_check.sh            SANITIZE=1 tools/gpu_check.sh
#
# Needs Python with torch (built for CUDA), scipy, pytest and hypothesis, CMake and nvcc; installs nothing. Without ninja, make is used.
# Where gsplat, tiny-cuda-nn or nerfacc are installed, they are measured beside the kernels.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

missing() {
  echo "gpu_check: $1" >&2
  exit 1
}

command -v nvcc >/dev/null || missing "there is no nvcc on the path; the CUDA kernels cannot be built here"
command -v cmake >/dev/null || missing "there is no cmake on the path"
"$PYTHON" -c 'import torch' 2>/dev/null || missing "$PYTHON cannot import torch; name another with PYTHON=..."
"$PYTHON" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' ||
  missing "there is no CUDA device that torch sees; nothing was checked"
"$PYTHON" -c 'import hypothesis, pytest, scipy' 2>/dev/null || missing "$PYTHON cannot import hypothesis, pytest and scipy"

start=$SECONDS
AVATARFIT_CUDA=1 cmake -S cuda_ext -B build/gpu -DCMAKE_BUILD_TYPE=Release
AVATARFIT_CUDA=1 cmake --build build/gpu --parallel
cp build/gpu/libavatarfit_cpu.so build/gpu/libavatarfit_cuda.so avatarfit/ops/
echo "gpu_check: built in $((SECONDS - start)) s"

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$PYTHON" -m pytest -p no:cacheprovider -q -rs tests/parity/test_parity_devices.py tests/parity/test_cuda_library.py \
  tests/parity/test_parity_volume.py tests/parity/test_parity_fused_mlp.py tests/parity/test_vendor_tcnn.py \
  tests/parity/test_vendor_nerfacc.py -k "not emulation"
if [ -n "${SANITIZE:-}" ]; then
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$PYTHON" -m pytest -p no:cacheprovider -q \
      tests/parity/test_parity_devices.py -k "cuda and (loss or adam or blend or batch or (rasterise and 200))"
  done
fi

mkdir -p benchmarks
name=$("$PYTHON" -c 'import re, torch; print(re.sub(r"[^a-z0-9]+", "_", torch.cuda.get_device_name().lower()))')
"$PYTHON" tools/gpu_benchmark.py --output "benchmarks/$name.json"
echo "gpu_check: all well; numbers in benchmarks/$name.json"
