#include "cpu/workspace.h"

#include <stdlib.h>
#include <string.h>

static void *allocate(size_t bytes, size_t *rounded) {
  *rounded = (bytes + bytes / 4 + 64) & ~(size_t)63;
  return aligned_alloc(64, *rounded);
}

void *af_reserve(af_buffer *buffer, size_t bytes) {
  if (buffer->data && buffer->bytes >= bytes) return buffer->data;
  af_release(buffer);
  buffer->data = allocate(bytes, &buffer->bytes);
  if (!buffer->data) buffer->bytes = 0;
  return buffer->data;
}

void *af_grow(af_buffer *buffer, size_t bytes) {
  if (buffer->data && buffer->bytes >= bytes) return buffer->data;
  size_t rounded;
  void *data = allocate(bytes, &rounded);
  if (!data) return 0;
  if (buffer->data) memcpy(data, buffer->data, buffer->bytes);
  free(buffer->data);
  buffer->data = data;
  buffer->bytes = rounded;
  return data;
}

void af_release(af_buffer *buffer) {
  free(buffer->data);
  buffer->data = 0;
  buffer->bytes = 0;
}
