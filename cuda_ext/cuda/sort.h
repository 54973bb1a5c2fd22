/* Stable sort of (key, value) pairs on a device. By itself, since CUB's templates take longer to compile than all else. */
#ifndef AF_SORT_H
#define AF_SORT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of scratch that sorting `count` pairs takes; returns a cudaError_t. */
int af_sort_scratch(int count, int key_bits, size_t *bytes);
/* By the lowest `key_bits` of the keys. */
int af_sort_pairs(void *scratch, size_t bytes, const uint64_t *keys, uint64_t *keys_out, const uint32_t *values,
                  uint32_t *values_out, int count, int key_bits, void *stream);

#endif
