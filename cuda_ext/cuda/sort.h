/* Stable sort of (key, value) pairs on a device. By itself, since CUB's templates take longer to compile than all else. */
#ifndef AF_SORT_H
#define AF_SORT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of scratch that sorting `count` pairs takes; returns a cudaError_t. */
int af_sort_scratch(int count, size_t *bytes);
int af_sort_pairs(void *scratch, size_t bytes, const uint32_t *keys, uint32_t *keys_out, const uint32_t *values,
                  uint32_t *values_out, int count, void *stream);

#endif
