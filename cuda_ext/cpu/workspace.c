#include "cpu/workspace.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double af_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double af_stage_ends(af_workspace *workspace, int stage, double since) {
  double now = af_seconds();
  workspace->stage_seconds[stage] = now - since;
  return now;
}

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
