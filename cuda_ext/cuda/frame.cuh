/* One frame of a batch, and how a batch's table of frames gets onto the device. */
#ifndef AF_FRAME_CUH
#define AF_FRAME_CUH

#include "cuda/launch.cuh"
#include "shared/projection.h"

/* avatarfit/ops/native_cuda.py states the same fields. The caller gives all but `first` and the camera beyond its centre. */
typedef struct {
  const float2 *base;
  const void *deltas; /* [n, k, 14] float2 pairs, or __half2 where `half` */
  const float *weights;
  const int32_t *group;
  const float *skin, *head, *torso;
  const uint8_t *background; /* [height, width, 3] */
  int32_t n, k, groups, half;
  int32_t first; /* its first slot among those of all frames */
  af_camera camera;
} frame;

/* The table travels as a kernel's argument, which CUDA copies when it is launched or captured: no pinned memory that has to
   outlive a copy or a graph. This many fit the 4 KiB that every GPU takes. */
#define FRAMES_A_LAUNCH 32
typedef struct { frame at[FRAMES_A_LAUNCH]; } frame_chunk;
static_assert(sizeof(frame) == 120 && sizeof(frame_chunk) <= 4096 - 64, "a chunk of frames is no kernel argument");

/* One frame a block: arguments are read fastest where all threads read the same one. */
__global__ void __launch_bounds__(1) set_frames(const __grid_constant__ frame_chunk chunk, frame *__restrict__ out) {
  out[blockIdx.x] = chunk.at[blockIdx.x];
}

static int send_frames(const frame *frames, int count, frame *out, cudaStream_t stream) {
  for (int start = 0; start < count; start += FRAMES_A_LAUNCH) {
    int part = count - start < FRAMES_A_LAUNCH ? count - start : FRAMES_A_LAUNCH;
    frame_chunk chunk = {};
    for (int i = 0; i < part; i++) chunk.at[i] = frames[start + i];
    AF_LAUNCH(set_frames, (unsigned)part, 1, 0, stream, chunk, out + start);
    AF_TRY(af_launched());
  }
  return AF_OK;
}

#endif
