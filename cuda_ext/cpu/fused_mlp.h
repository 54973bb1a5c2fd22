/* Small multi-layer perceptrons, all layers of a block of samples at once, so that what lies between layers never leaves the
   nearest cache (the idea of Mueller et al. 2021, "Real-time Neural Radiance Caching", section 5.2, for a CPU). Every product is
   one tile in registers: rows that are broadcast times vectors of columns. The backward pass finds the hidden layers again: that
   costs a third more arithmetic and saves writing and reading them.
   The parameters' gradient is summed over stretches of samples whose number hangs on the samples alone, and these in order: the
   same to the last bit for any number of threads. A sample's own results do not depend on the others. */
#include "cpu/table.h"
#include "shared/fused_mlp.h"

#define MLP_BLOCK 48 /* samples; a multiple of MLP_ROWS */
#define MLP_ROWS 6
#define MLP_STRETCHES 64
#define MLP_PADDED (AF_MLP_WIDTH_MAX + VL)

typedef struct {
  const af_mlp *mlp;
  const float *x, *grad;
  int64_t n;
  const float *by_input[AF_MLP_LAYERS_MAX];  /* weights [in, out padded], for the way forward */
  const float *by_output[AF_MLP_LAYERS_MAX]; /* weights [out, in padded], for the way back */
  const float *bias[AF_MLP_LAYERS_MAX];      /* [out padded] */
  float *out, *grad_x, *grad_parameters;
  float *sums; /* of each stretch: gradients [out, in padded] and [out padded], layer by layer */
  int64_t sums_size;
  int stretches;
} mlp_job;

INLINE int mlp_padded(int width) { return (width + VL - 1) / VL * VL; }

/* `rows` x `vectors` of c = start + a b. Element (r, k) of a lies at a[r * a_row + k * a_step], row k of b at b + k * b_row. */
INLINE void mlp_tile(const float *a, int a_row, int a_step, const float *b, int b_row, int depth, const float *start,
                     int start_row, float *c, int c_row, int rows, int vectors) {
  vf sums[MLP_ROWS][2];
#pragma GCC unroll 6
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sums[r][v] = v_load(start + r * start_row + v * VL);
  for (int k = 0; k < depth; k++, a += a_step, b += b_row) {
    vf columns[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) columns[v] = v_load(b + v * VL);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
      vf row = v_set(a[r * a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sums[r][v] += row * columns[v];
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) v_store(c + r * c_row + v * VL, sums[r][v]);
}

INLINE void mlp_rows(const float *a, int a_row, int a_step, const float *b, int b_row, int depth, const float *start,
                     int start_row, float *c, int c_row, int rows, int vectors) {
#define MLP_TILE(count) \
  mlp_tile(a, a_row, a_step, b, b_row, depth, start, start_row, c, c_row, count, vectors)
  for (; rows >= MLP_ROWS; rows -= MLP_ROWS) {
    MLP_TILE(MLP_ROWS);
    a += MLP_ROWS * a_row, start += MLP_ROWS * start_row, c += MLP_ROWS * c_row;
  }
  switch (rows) {
    case 1: MLP_TILE(1); break;
    case 2: MLP_TILE(2); break;
    case 3: MLP_TILE(3); break;
    case 4: MLP_TILE(4); break;
    case 5: MLP_TILE(5); break;
    default: break;
  }
#undef MLP_TILE
}

/* c [rows, columns] = start + a b; columns is a multiple of VL. start_row 0 repeats one row. */
static __attribute__((noinline)) void mlp_product(const float *a, int a_row, int a_step, const float *b, int b_row, int depth,
                                                  const float *start, int start_row, float *c, int c_row, int rows,
                                                  int columns) {
  int column = 0;
  for (; column + 2 * VL <= columns; column += 2 * VL)
    mlp_rows(a, a_row, a_step, b + column, b_row, depth, start + column, start_row, c + column, c_row, rows, 2);
  if (column < columns)
    mlp_rows(a, a_row, a_step, b + column, b_row, depth, start + column, start_row, c + column, c_row, rows, 1);
}

/* Layer l of a block: `in` [count, in_row] to `out` [count, out padded]. */
INLINE void mlp_layer(const mlp_job *job, int l, const float *in, int in_row, int count, float *out) {
  const af_mlp *mlp = job->mlp;
  int padded = mlp_padded(mlp->widths[l + 1]);
  mlp_product(in, in_row, 1, job->by_input[l], padded, mlp->widths[l], job->bias[l], 0, out, padded, count, padded);
  if (l + 1 == mlp->layers) return;
  /* NaN stays NaN. */
  for (int i = 0; i < count * padded; i += VL) v_store(out + i, v_max((vf){0}, v_load(out + i)));
}

/* Between rows as they lie in a tensor and padded ones. */
INLINE void mlp_copy(const float *from, int from_row, float *to, int to_row, int width, int count) {
  for (int p = 0; p < count; p++) memcpy(to + p * to_row, from + p * from_row, (size_t)width * sizeof(float));
}

static void mlp_forward_part(int part, int parts, void *context) {
  const mlp_job *job = context;
  const af_mlp *mlp = job->mlp;
  _Alignas(64) float buffers[2][MLP_BLOCK * MLP_PADDED];
  int inputs = mlp->widths[0], outputs = mlp->widths[mlp->layers];
  int64_t blocks = (job->n + MLP_BLOCK - 1) / MLP_BLOCK;
  for (int64_t from = share(blocks, part, parts) * MLP_BLOCK, end = share(blocks, part + 1, parts) * MLP_BLOCK;
       from < end && from < job->n; from += MLP_BLOCK) {
    int count = job->n - from < MLP_BLOCK ? (int)(job->n - from) : MLP_BLOCK;
    const float *in = job->x + from * inputs;
    for (int l = 0, in_row = inputs; l < mlp->layers; in_row = mlp_padded(mlp->widths[++l])) {
      mlp_layer(job, l, in, in_row, count, buffers[l & 1]);
      in = buffers[l & 1];
    }
    mlp_copy(in, mlp_padded(outputs), job->out + from * outputs, outputs, outputs, count);
  }
}

static void mlp_backward_part(int part, int parts, void *context) {
  const mlp_job *job = context;
  const af_mlp *mlp = job->mlp;
  static const float zeros[MLP_PADDED];
  _Alignas(64) float inputs_of[AF_MLP_LAYERS_MAX][MLP_BLOCK * MLP_PADDED], grads[2][MLP_BLOCK * MLP_PADDED];
  int inputs = mlp->widths[0], outputs = mlp->widths[mlp->layers], last = mlp->layers - 1;
  float *sums = job->sums ? job->sums + part * job->sums_size : 0;
  if (sums) memset(sums, 0, (size_t)job->sums_size * sizeof(float));
  memset(inputs_of[0], 0, sizeof inputs_of[0]);
  int64_t blocks = (job->n + MLP_BLOCK - 1) / MLP_BLOCK;
  for (int64_t from = share(blocks, part, parts) * MLP_BLOCK, end = share(blocks, part + 1, parts) * MLP_BLOCK;
       from < end && from < job->n; from += MLP_BLOCK) {
    int count = job->n - from < MLP_BLOCK ? (int)(job->n - from) : MLP_BLOCK;
    mlp_copy(job->x + from * inputs, inputs, inputs_of[0], mlp_padded(inputs), inputs, count);
    for (int l = 0; l < last; l++) mlp_layer(job, l, inputs_of[l], mlp_padded(mlp->widths[l]), count, inputs_of[l + 1]);
    float *grad = grads[0], *next = grads[1];
    mlp_copy(job->grad + from * outputs, outputs, grad, mlp_padded(outputs), outputs, count);
    float *layer_sums = sums ? sums + job->sums_size : 0;
    for (int l = last; l >= 0; l--) {
      int in = mlp->widths[l], out = mlp->widths[l + 1], in_row = mlp_padded(in), out_row = mlp_padded(out);
      if (sums) {
        layer_sums -= out * in_row + out_row;
        mlp_product(grad, 1, out_row, inputs_of[l], in_row, count, layer_sums, in_row, layer_sums, in_row, out, in_row);
        float *bias_sums = layer_sums + out * in_row;
        for (int p = 0; p < count; p++)
          for (int o = 0; o < out; o++) bias_sums[o] += grad[p * out_row + o];
      }
      if (!l && !job->grad_x) break;
      mlp_product(grad, out_row, 1, job->by_output[l], in_row, out, zeros, 0, next, in_row, count, in_row);
      if (l)
        for (int i = 0; i < count * in_row; i += VL)
          v_store(next + i, v_keep(v_load(next + i), v_load(inputs_of[l] + i) > 0));
      float *swap = grad;
      grad = next, next = swap;
    }
    if (job->grad_x) mlp_copy(grad, mlp_padded(inputs), job->grad_x + from * inputs, inputs, inputs, count);
  }
}

/* Adds up the stretches for every parts-th row of the weights, or the bias, of all layers. */
static void mlp_sum_part(int part, int parts, void *context) {
  const mlp_job *job = context;
  const af_mlp *mlp = job->mlp;
  const float *from = job->sums;
  for (int l = 0, row = 0; l < mlp->layers; l++) {
    int in = mlp->widths[l], out = mlp->widths[l + 1], in_row = mlp_padded(in);
    for (int o = 0; o <= out; o++, row++) {
      const float *source = from + (int64_t)o * in_row; /* after the last row comes the bias */
      float *to = job->grad_parameters + mlp->weights[l] + (int64_t)o * in;
      int width = o < out ? in : out;
      if (row % parts != part) continue;
      memcpy(to, source, (size_t)width * sizeof(float));
      for (int s = 1; s < job->stretches; s++)
        for (int i = 0; i < width; i++) to[i] += source[s * job->sums_size + i];
    }
    from += (int64_t)out * in_row + mlp_padded(out);
  }
}

/* Weights both ways round and biases, with zeros for padding. */
static int mlp_pack(af_workspace *workspace, int slot, const af_mlp *mlp, const float *parameters, int backward,
                    mlp_job *job) {
  size_t size = 0;
  for (int l = 0; l < mlp->layers; l++) {
    int in = mlp->widths[l], out = mlp->widths[l + 1];
    size += (size_t)(in + 1) * mlp_padded(out) + (backward ? (size_t)out * mlp_padded(in) : 0);
  }
  float *to = af_reserve(&workspace->slots[slot], size * sizeof(float));
  if (!to) return AF_NO_MEMORY;
  memset(to, 0, size * sizeof(float));
  for (int l = 0; l < mlp->layers; l++) {
    int in = mlp->widths[l], out = mlp->widths[l + 1], padded = mlp_padded(out);
    const float *weights = parameters + mlp->weights[l];
    job->by_input[l] = to;
    for (int o = 0; o < out; o++)
      for (int i = 0; i < in; i++) to[i * padded + o] = weights[o * in + i];
    to += in * padded;
    job->bias[l] = to;
    memcpy(to, parameters + mlp->biases[l], (size_t)out * sizeof(float));
    to += padded;
    if (!backward) continue;
    job->by_output[l] = to;
    mlp_copy(weights, in, to, mlp_padded(in), in, out);
    to += out * mlp_padded(in);
  }
  return AF_OK;
}

static int fused_mlp(af_workspace *workspace, const af_mlp *mlp, const float *x, int64_t n, const float *parameters,
                     float *out) {
  mlp_job job = {.mlp = mlp, .x = x, .n = n, .out = out};
  int status = mlp_pack(workspace, AF_SLOT_MLP_WEIGHTS, mlp, parameters, 0, &job);
  if (status) return status;
  int64_t parts = 4 * (int64_t)af_thread_count(), most = n / (4 * MLP_BLOCK) + 1;
  af_parallel((int)(parts < most ? parts : most), mlp_forward_part, &job);
  return AF_OK;
}

/* Either gradient may be null. */
static int fused_mlp_backward(af_workspace *workspace, const af_mlp *mlp, const float *x, int64_t n, const float *parameters,
                              const float *grad, float *grad_x, float *grad_parameters) {
  mlp_job job = {.mlp = mlp, .x = x, .n = n, .grad = grad, .grad_x = grad_x, .grad_parameters = grad_parameters};
  int64_t stretches = n / (16 * MLP_BLOCK) + 1;
  job.stretches = stretches > MLP_STRETCHES ? MLP_STRETCHES : (int)stretches;
  int status = mlp_pack(workspace, AF_SLOT_MLP_WEIGHTS, mlp, parameters, 1, &job);
  if (status) return status;
  if (grad_parameters) {
    for (int l = 0; l < mlp->layers; l++)
      job.sums_size += mlp->widths[l + 1] * mlp_padded(mlp->widths[l]) + mlp_padded(mlp->widths[l + 1]);
    size_t bytes = (size_t)(job.sums_size * job.stretches) * sizeof(float);
    job.sums = af_reserve(&workspace->slots[AF_SLOT_MLP_GRADS], bytes);
    if (!job.sums) return AF_NO_MEMORY;
  }
  af_parallel(job.stretches, mlp_backward_part, &job);
  if (grad_parameters) af_parallel(af_thread_count(), mlp_sum_part, &job);
  return AF_OK;
}
