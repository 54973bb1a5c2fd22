#include "cuda/sort.h"

#include <cub/device/device_radix_sort.cuh>

int af_sort_scratch(int count, size_t *bytes) {
  const uint32_t *in = nullptr;
  uint32_t *out = nullptr;
  return (int)cub::DeviceRadixSort::SortPairs(nullptr, *bytes, in, out, in, out, count);
}

int af_sort_pairs(void *scratch, size_t bytes, const uint32_t *keys, uint32_t *keys_out, const uint32_t *values,
                  uint32_t *values_out, int count, void *stream) {
  return (int)cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, keys_out, values, values_out, count, 0, 32,
                                              (cudaStream_t)stream);
}
