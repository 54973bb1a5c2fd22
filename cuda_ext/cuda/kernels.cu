/* The CUDA library: every kernel and its C interface in one translation unit, and what the library says of itself. */
#include "cuda/launch.cuh"

#include "cuda/composite.cuh"
#include "cuda/fused_mlp.cuh"
#include "cuda/hash_encode.cuh"
#include "cuda/loss.cuh"
#include "cuda/march.cuh"
#include "cuda/render.cuh"

#define AF_CUDA_ABI_VERSION 5

#ifndef AF_CUDA_ARCHITECTURES
#define AF_CUDA_ARCHITECTURES "unknown"
#endif

AF_API int af_cuda_abi_version() { return AF_CUDA_ABI_VERSION; }

/* What the library was compiled for, as CMake's list. */
AF_API const char *af_cuda_architectures() { return AF_CUDA_ARCHITECTURES; }

/* What a status says, in the CUDA runtime's words where it comes from there. */
AF_API const char *af_cuda_status_text(int status) {
  switch (status) {
    case AF_OK: return "no error";
    case AF_BAD_VALUE: return "a size is out of range";
    case AF_NO_MEMORY: return "the workspace is too small";
    default: return status >= AF_CUDA_FAILED ? cudaGetErrorString((cudaError_t)(status - AF_CUDA_FAILED)) : "unknown";
  }
}
