/* In place of CUB: the same stable order. */
#include "cuda/sort.h"

#include <algorithm>
#include <vector>

int af_sort_scratch(int, int, size_t *bytes) {
  *bytes = 1;
  return 0;
}

int af_sort_pairs(void *, size_t, const uint64_t *keys, uint64_t *keys_out, const uint32_t *values, uint32_t *values_out,
                  int count, int key_bits, void *) {
  uint64_t kept = key_bits == 64 ? ~0ull : (1ull << key_bits) - 1; /* as CUB, which looks at no higher bit */
  std::vector<int> order((size_t)count);
  for (int i = 0; i < count; i++) order[(size_t)i] = i;
  std::stable_sort(order.begin(), order.end(), [=](int a, int b) { return (keys[a] & kept) < (keys[b] & kept); });
  for (int i = 0; i < count; i++) keys_out[i] = keys[order[(size_t)i]], values_out[i] = values[order[(size_t)i]];
  return 0;
}
