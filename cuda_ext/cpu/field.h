/* A radiance field seen along rays, from places to colours, a block of samples at a time: nothing that lies between the steps
   leaves the nearest caches, and nothing that no one sees is computed. A block holds the next sample of as many rays. A ray
   leaves it when it has no sample left or too little light comes through, and the next ray takes its place; so blocks stay full
   and a ray ends at the very sample. What is seen well enough to need a colour waits until it fills a block of its own.
   A part is a run of rays whose number hangs on the rays alone, and a ray's sums grow in the order of its samples: the same to
   the last bit for any number of threads. */
#include "shared/field.h"

#define FIELD_RAYS 512 /* to a part: the last samples of a part fill no block */

typedef struct {
  const af_field *field;
  const float *positions, *lengths;
  const int64_t *offsets;
  int64_t rays;
  mlp_job density, colour;
  af_mlp colour_mlp; /* without the inputs that are the same everywhere: they are in the first bias */
  float *out;
} field_job;

/* The rays of a block and what is known of each. */
typedef struct {
  int count;
  int64_t ray[MLP_BLOCK], sample[MLP_BLOCK], end[MLP_BLOCK];
  float passed[MLP_BLOCK]; /* optical depth so far */
} field_rays;

/* Samples that wait for their colour. */
typedef struct {
  int count;
  int64_t ray[MLP_BLOCK];
  float weight[MLP_BLOCK];
  _Alignas(64) float features[MLP_BLOCK * AF_MLP_WIDTH_MAX];
} field_queue;

/* What a network's last layer gives, in one of the buffers: [count, mlp_padded(outputs)]. */
INLINE const float *field_layers(const mlp_job *job, const float *in, int in_row, int count,
                                 float buffers[2][MLP_BLOCK * MLP_PADDED]) {
  const af_mlp *mlp = job->mlp;
  for (int l = 0; l < mlp->layers; in_row = mlp_padded(mlp->widths[++l])) {
    mlp_layer(job, l, in, in_row, count, buffers[l & 1]);
    in = buffers[l & 1];
  }
  return in;
}

/* NaN stays NaN. */
INLINE vf field_exp(vf x) { return v_exp2(v_min(v_set(127.0f), v_max(v_set(-126.0f), x * AF_LOG2E))); }

/* As af_absorbed. */
INLINE vf field_absorbed(vf depth) {
  vf series = depth * (1.0f - depth * (0.5f - depth * (1.0f / 6.0f - depth * (1.0f / 24.0f - depth * (1.0f / 120.0f)))));
  vi thin = depth < 0.125f;
  return v_keep(series, thin) + v_keep(1.0f - field_exp(-depth), ~thin);
}

/* The features of every level for a block whose coordinates lie in `at`, level by level in each row of `out`. */
INLINE void field_encode(const af_grid *grid, const float *table, float at[3][GRID_CHUNK], int count, float *out, int row,
                         int dimensions, int features) {
  for (int l = 0; l < grid->levels; l++)
    for (int p = 0; p < count; p += GRID_BLOCK)
      encode_level(grid->at + l, table + grid->at[l].offset * features, at, p,
                   count - p < GRID_BLOCK ? count - p : GRID_BLOCK, out + (int64_t)p * row + l * features, row, dimensions,
                   features);
}

static __attribute__((noinline)) void field_encode_space(const af_grid *grid, const float *table, float at[3][GRID_CHUNK],
                                                         int count, float *out, int row) {
  WITH_GRID_SIZES(grid, field_encode, grid, table, at, count, out, row);
}

/* The density network's inputs and the motion's rows [count, AF_ATTRIBUTES] of a block's samples. */
static void field_inputs(const field_job *job, const field_rays *rays, float *motion, float *inputs) {
  const af_field *field = job->field;
  int row = field->density.widths[0], count = rays->count, column = AF_FIELD_TOLD;
  float at[3][GRID_CHUNK], across[3][GRID_CHUNK], per_side = 1.0f / field->side;
  for (int p = 0; p < count; p++) {
    const float *position = job->positions + 3 * rays->sample[p];
    for (int c = 0; c < 3; c++) at[c][p] = (position[c] - field->low[c]) * per_side;
  }
  for (int p = count; p % GRID_BLOCK; p++) at[0][p] = at[1][p] = at[2][p] = 0.0f;
  field_encode_space(&field->motion_grid, field->motion, at, count, motion, AF_ATTRIBUTES);
  for (int p = 0; p < count; p++) {
    const float *moved = motion + p * AF_ATTRIBUTES;
    for (int c = 0; c < 3; c++) at[c][p] += moved[c] * per_side;
    memcpy(inputs + p * row, moved + AF_FIELD_LOCAL, AF_FIELD_TOLD * sizeof(float));
  }
  if (field->space.levels) {
    field_encode_space(&field->space, field->table, at, count, inputs + column, row);
    column += field->space.levels * field->space.features;
  }
  const af_grid *plane = &field->plane;
  for (int i = 0; plane->levels && i < 3; i++) { /* xy, yz, xz */
    const af_level *last = plane->at + plane->levels - 1;
    const float *rows = field->planes + i * (last->offset + last->size) * plane->features;
    memcpy(across[0], at[i == 1], MLP_BLOCK * sizeof(float));
    memcpy(across[1], at[i ? 2 : 1], MLP_BLOCK * sizeof(float));
    field_encode_space(plane, rows, across, count, inputs + column, row);
    column += plane->levels * plane->features;
  }
}

/* Gives the queue its colours and empties it. */
static __attribute__((noinline)) void field_colour(const field_job *job, field_queue *queue) {
  const af_mlp *mlp = &job->colour_mlp;
  _Alignas(64) float buffers[2][MLP_BLOCK * MLP_PADDED];
  const float *logits = field_layers(&job->colour, queue->features, mlp->widths[0], queue->count, buffers);
  int row = mlp_padded(mlp->widths[mlp->layers]);
  for (int p = 0; p < queue->count; p++) {
    float *out = job->out + 4 * queue->ray[p];
    v4 colour = v_first4(queue->weight[p] / (1.0f + field_exp(-v_load(logits + p * row))));
    for (int c = 0; c < 3; c++) out[c] += colour[c];
  }
  queue->count = 0;
}

/* Fills the block's empty places with the next rays that have samples. */
INLINE void field_admit(const field_job *job, field_rays *rays, int64_t *next, int64_t end) {
  for (; rays->count < MLP_BLOCK && *next < end; ++*next) {
    int64_t from = job->offsets[*next], to = job->offsets[*next + 1];
    if (from == to) continue;
    int p = rays->count++;
    rays->ray[p] = *next, rays->sample[p] = from, rays->end[p] = to, rays->passed[p] = 0.0f;
  }
}

static void field_part(int part, int parts, void *context) {
  const field_job *job = context;
  int64_t next = share(job->rays, part, parts), end = share(job->rays, part + 1, parts);
  _Alignas(64) float buffers[2][MLP_BLOCK * MLP_PADDED], inputs[MLP_BLOCK * AF_MLP_WIDTH_MAX];
  float motion[MLP_BLOCK * AF_ATTRIBUTES], log_density[MLP_BLOCK] = {0}, length[MLP_BLOCK] = {0};
  float weight[MLP_BLOCK], passes[MLP_BLOCK];
  const af_mlp *mlp = &job->field->density;
  int geometry = mlp->widths[mlp->layers] - 1, row = mlp_padded(geometry + 1), features = geometry + AF_FIELD_TOLD;
  field_rays rays = {0};
  field_queue queue = {.count = 0};
  memset(job->out + 4 * next, 0, (size_t)(4 * (end - next)) * sizeof(float));
  for (field_admit(job, &rays, &next, end); rays.count; field_admit(job, &rays, &next, end)) {
    int count = rays.count;
    field_inputs(job, &rays, motion, inputs);
    const float *told = field_layers(&job->density, inputs, mlp->widths[0], count, buffers);
    for (int p = 0; p < count; p++) {
      log_density[p] = told[p * row] + motion[p * AF_ATTRIBUTES + AF_FIELD_DENSITY];
      length[p] = job->lengths[rays.sample[p]];
    }
    for (int p = 0; p < count; p += VL) {
      vf passed = v_load(rays.passed + p);
      vf depth = field_exp(v_min(v_set(AF_FIELD_LOG_DENSITY_MAX), v_load(log_density + p))) * v_load(length + p);
      v_store(weight + p, field_exp(-passed) * field_absorbed(depth));
      v_store(rays.passed + p, passed + depth);
      v_store(passes + p, field_exp(-passed - depth));
    }
    rays.count = 0;
    for (int p = 0; p < count; p++) {
      job->out[4 * rays.ray[p] + 3] += weight[p];
      if (!(weight[p] <= job->field->colour_from)) {
        float *to = queue.features + queue.count * features;
        memcpy(to, told + p * row + 1, (size_t)geometry * sizeof(float));
        memcpy(to + geometry, motion + p * AF_ATTRIBUTES + AF_FIELD_LOCAL, AF_FIELD_TOLD * sizeof(float));
        queue.ray[queue.count] = rays.ray[p], queue.weight[queue.count] = weight[p];
        if (++queue.count == MLP_BLOCK) field_colour(job, &queue);
      }
      if (rays.sample[p] + 1 < rays.end[p] && !(passes[p] < AF_TRANSMITTANCE_MIN)) {
        int to = rays.count++;
        rays.ray[to] = rays.ray[p], rays.sample[to] = rays.sample[p] + 1, rays.end[to] = rays.end[p];
        rays.passed[to] = rays.passed[p];
      }
    }
  }
  if (queue.count) field_colour(job, &queue);
}

static int see_field(af_workspace *workspace, const af_field *field, const float *positions, const float *lengths,
                     const int64_t *offsets, int64_t rays, float *out) {
  field_job job = {.field = field, .positions = positions, .lengths = lengths, .offsets = offsets, .rays = rays,
                   .density = {.mlp = &field->density}, .colour = {.mlp = &job.colour_mlp}, .colour_mlp = field->colour,
                   .out = out};
  int status = mlp_pack(workspace, AF_SLOT_MLP_WEIGHTS, &field->density, field->density_parameters, 0, &job.density);
  if (!status) status = mlp_pack(workspace, AF_SLOT_MLP_GRADS, &field->colour, field->colour_parameters, 0, &job.colour);
  if (status) return status;
  job.colour_mlp.widths[0] -= field->seen_count;
  int padded = mlp_padded(field->colour.widths[1]);
  const float *weights = job.colour.by_input[0] + job.colour_mlp.widths[0] * padded;
  float *bias = (float *)job.colour.bias[0]; /* it lies in the workspace */
  for (int k = 0; k < field->seen_count; k++)
    for (int o = 0; o < padded; o++) bias[o] += field->seen[k] * weights[k * padded + o];
  int64_t parts = (rays + FIELD_RAYS - 1) / FIELD_RAYS;
  af_parallel(parts < 65535 ? (int)parts : 65535, field_part, &job);
  return AF_OK;
}
