#include "cuda/sort.h"

#include <cub/device/device_radix_sort.cuh>

int af_sort_scratch(int count, int key_bits, size_t *bytes) {
  const uint64_t *keys = nullptr;
  const uint32_t *values = nullptr;
  return (int)cub::DeviceRadixSort::SortPairs(nullptr, *bytes, keys, (uint64_t *)nullptr, values, (uint32_t *)nullptr,
                                              count, 0, key_bits);
}

int af_sort_pairs(void *scratch, size_t bytes, const uint64_t *keys, uint64_t *keys_out, const uint32_t *values,
                  uint32_t *values_out, int count, int key_bits, void *stream) {
  return (int)cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, keys_out, values, values_out, count, 0, key_bits,
                                              (cudaStream_t)stream);
}
