/* Scratch memory that grows and is kept between calls: a fresh large allocation costs a page fault for every 4 KiB. */
#ifndef AF_WORKSPACE_H
#define AF_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/threads.h"

typedef struct { void *data; size_t bytes; } af_buffer;

enum {
  AF_SLOT_KEYS,
  AF_SLOT_RECORDS,
  AF_SLOT_COUNTS,
  AF_SLOT_STARTS,
  AF_SLOT_SPANS,
  AF_SLOT_LIST,
  AF_SLOT_USED,
  AF_SLOT_USED_BEFORE,
  AF_SLOT_GRAD_ROWS,
  AF_SLOT_SAVED,
  AF_SLOT_LOSS_PADDED,
  AF_SLOT_LOSS_MAPS,
  AF_SLOT_LOSS_ROWS,
  AF_SLOT_ATTRIBUTES,
  AF_SLOT_SPLATS,
  AF_SLOT_MARCH_BLOCKS,
  AF_SLOT_MLP_WEIGHTS,
  AF_SLOT_MLP_GRADS, /* or a second network's weights */
  AF_SLOT_ROWS,
  AF_SLOT_COUNT
};

/* Stages whose last duration a workspace keeps: two clock readings each, for profiles and benchmarks. */
enum {
  AF_STAGE_BLEND,
  AF_STAGE_PROJECT,
  AF_STAGE_SORT,
  AF_STAGE_BIN,
  AF_STAGE_FILL,
  AF_STAGE_COMPOSITE,
  AF_STAGE_BACKWARD,
  AF_STAGE_GATHER,
  AF_STAGE_MOMENTS,
  AF_STAGE_LOSS_GRADIENT,
  AF_STAGE_COUNT
};

typedef struct af_workspace {
  af_buffer slots[AF_SLOT_COUNT];
  af_buffer spans[AF_MAX_THREADS];   /* each part grows its own */
  af_buffer scratch[AF_MAX_THREADS];
  /* What the bins in the slots were made for; splats are compared byte by byte, so stale bins are never used. */
  int64_t binned_splats;
  int binned_height, binned_width, binned_parts, binned_drawn;
  const void *binned_by;
  double stage_seconds[AF_STAGE_COUNT];
  int64_t pairs_binned, pairs_composited; /* (splat, block) pairs of the last forward pass: listed, and looked at */
} af_workspace;

/* Seconds on a clock that never steps back. */
double af_seconds(void);
/* Records the time since `since` under `stage`; returns the time now. */
double af_stage_ends(af_workspace *workspace, int stage, double since);

/* At least `bytes`, aligned to 64, contents undefined (kept by af_grow); null when there is no memory. */
void *af_reserve(af_buffer *buffer, size_t bytes);
void *af_grow(af_buffer *buffer, size_t bytes);
void af_release(af_buffer *buffer);

#endif
