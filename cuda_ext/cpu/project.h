/* Projection of Gaussians, 16 at a time: rows are turned to columns, the shared scalar code is vectorised over them. */
#include "cpu/table.h"
#include "shared/projection.h"

typedef struct {
  const float *attributes, *skin, *grad;
  af_affine head, torso;
  af_camera camera;
  int64_t n;
  float *splats, *grad_attributes, *grad_skin;
  float (*matrix_sums)[24][LANES]; /* by part: gradient of head, then of torso */
} project_job;

typedef float columns14[AF_ATTRIBUTES][LANES] __attribute__((aligned(64)));
typedef float columns10[AF_SPLAT][LANES] __attribute__((aligned(64)));

INLINE af_gaussian gaussian_at(columns14 a, int l) {
  af_gaussian g = {{a[0][l], a[1][l], a[2][l]}, a[3][l], a[4][l], a[5][l], a[6][l],
                   {a[7][l], a[8][l], a[9][l]}, a[10][l], a[11][l], a[12][l], a[13][l]};
  return g;
}

/* Rows [n, n + count) to columns; lanes past the end repeat the last row. */
INLINE void load_columns(const float *rows, int width, int64_t n, int count, float (*columns)[LANES]) {
  for (int l = 0; l < LANES; l++) {
    const float *row = rows + (n + (l < count ? l : count - 1)) * width;
    for (int c = 0; c < width; c++) columns[c][l] = row[c];
  }
}

INLINE void store_columns(float (*columns)[LANES], int width, int64_t n, int count, float *rows) {
  for (int l = 0; l < count; l++)
    for (int c = 0; c < width; c++) rows[(n + l) * width + c] = columns[c][l];
}

static void project_part(int part, int parts, void *context) {
  const project_job *job = context;
  int64_t groups = (job->n + LANES - 1) / LANES;
  af_camera camera = job->camera;
  af_affine head = job->head, torso = job->torso;
  for (int64_t b = share(groups, part, parts), end = share(groups, part + 1, parts); b < end; b++) {
    int64_t n = b * LANES;
    int count = job->n - n < LANES ? (int)(job->n - n) : LANES;
    columns14 a;
    columns10 s;
    float skin[1][LANES];
    load_columns(job->attributes, AF_ATTRIBUTES, n, count, a);
    load_columns(job->skin, 1, n, count, skin);
    for (int l = 0; l < LANES; l++) {
      af_gaussian g = gaussian_at(a, l);
      af_splat r = af_project_splat(g, af_project_state(g, af_skin(skin[0][l], head, torso), camera));
      s[0][l] = r.mean_x, s[1][l] = r.mean_y, s[2][l] = r.conic_a, s[3][l] = r.conic_b, s[4][l] = r.conic_c;
      s[5][l] = r.opacity, s[6][l] = r.red, s[7][l] = r.green, s[8][l] = r.blue, s[9][l] = r.depth;
    }
    store_columns(s, AF_SPLAT, n, count, job->splats);
  }
}

static int project(const float *attributes, const float *skin, const float *head, const float *torso, int64_t n,
                   float focal, float center_x, float center_y, int width, int height, float *splats) {
  project_job job = {.attributes = attributes, .skin = skin, .head = af_make_affine(head),
                     .torso = af_make_affine(torso), .n = n, .splats = splats,
                     .camera = af_make_camera(focal, center_x, center_y, width, height)};
  af_parallel(job_parts(n), project_part, &job);
  return AF_OK;
}

static void project_backward_part(int part, int parts, void *context) {
  const project_job *job = context;
  int64_t groups = (job->n + LANES - 1) / LANES;
  af_camera camera = job->camera;
  af_affine head = job->head, torso = job->torso;
  float (*restrict sums)[LANES] = job->matrix_sums[part];
  memset(sums, 0, sizeof job->matrix_sums[part]);
  for (int64_t b = share(groups, part, parts), end = share(groups, part + 1, parts); b < end; b++) {
    int64_t n = b * LANES;
    int count = job->n - n < LANES ? (int)(job->n - n) : LANES;
    columns14 a, ga;
    columns10 gs;
    float skin[1][LANES], g_skin[1][LANES], matrix[12][LANES];
    load_columns(job->attributes, AF_ATTRIBUTES, n, count, a);
    load_columns(job->skin, 1, n, count, skin);
    load_columns(job->grad, AF_SPLAT, n, count, gs);
    for (int l = 0; l < LANES; l++) {
      af_gaussian g = gaussian_at(a, l);
      af_affine m = af_skin(skin[0][l], head, torso);
      af_projection p = af_project_state(g, m, camera);
      af_splat grad = {gs[0][l], gs[1][l], gs[2][l], gs[3][l], gs[4][l], gs[5][l], gs[6][l], gs[7][l], gs[8][l],
                       gs[9][l]};
      af_project_grad r = af_project_backward_one(g, m, camera, p, grad);
      /* A culled Gaussian may have overflowed: choose zero rather than multiply by it. */
      int seen = p.seen & (l < count);
      af_gaussian t = r.attributes;
      ga[0][l] = seen ? t.mean.x : 0, ga[1][l] = seen ? t.mean.y : 0, ga[2][l] = seen ? t.mean.z : 0;
      ga[3][l] = seen ? t.qw : 0, ga[4][l] = seen ? t.qx : 0, ga[5][l] = seen ? t.qy : 0, ga[6][l] = seen ? t.qz : 0;
      ga[7][l] = seen ? t.log_scale.x : 0, ga[8][l] = seen ? t.log_scale.y : 0, ga[9][l] = seen ? t.log_scale.z : 0;
      ga[10][l] = seen ? t.logit : 0;
      ga[11][l] = seen ? t.red : 0, ga[12][l] = seen ? t.green : 0, ga[13][l] = seen ? t.blue : 0;
      matrix[0][l] = seen ? r.matrix.r0.x : 0, matrix[1][l] = seen ? r.matrix.r0.y : 0;
      matrix[2][l] = seen ? r.matrix.r0.z : 0, matrix[3][l] = seen ? r.matrix.t.x : 0;
      matrix[4][l] = seen ? r.matrix.r1.x : 0, matrix[5][l] = seen ? r.matrix.r1.y : 0;
      matrix[6][l] = seen ? r.matrix.r1.z : 0, matrix[7][l] = seen ? r.matrix.t.y : 0;
      matrix[8][l] = seen ? r.matrix.r2.x : 0, matrix[9][l] = seen ? r.matrix.r2.y : 0;
      matrix[10][l] = seen ? r.matrix.r2.z : 0, matrix[11][l] = seen ? r.matrix.t.z : 0;
      float along = af_dot(r.matrix.r0, head.r0) - af_dot(r.matrix.r0, torso.r0) + af_dot(r.matrix.r1, head.r1) -
                    af_dot(r.matrix.r1, torso.r1) + af_dot(r.matrix.r2, head.r2) - af_dot(r.matrix.r2, torso.r2) +
                    af_dot(r.matrix.t, head.t) - af_dot(r.matrix.t, torso.t);
      g_skin[0][l] = seen ? along : 0;
    }
    for (int i = 0; i < 12; i++)
      for (int l = 0; l < LANES; l++) {
        sums[i][l] += skin[0][l] * matrix[i][l];
        sums[12 + i][l] += (1.0f - skin[0][l]) * matrix[i][l];
      }
    store_columns(ga, AF_ATTRIBUTES, n, count, job->grad_attributes);
    store_columns(g_skin, 1, n, count, job->grad_skin);
  }
}

static int project_backward(const float *attributes, const float *skin, const float *head, const float *torso, int64_t n,
                            float focal, float center_x, float center_y, int width, int height, const float *grad,
                            float *grad_attributes, float *grad_skin, float *grad_head, float *grad_torso) {
  float sums[AF_MAX_THREADS][24][LANES] __attribute__((aligned(64)));
  project_job job = {.attributes = attributes, .skin = skin, .grad = grad, .head = af_make_affine(head),
                     .torso = af_make_affine(torso), .n = n, .grad_attributes = grad_attributes,
                     .grad_skin = grad_skin, .matrix_sums = sums,
                     .camera = af_make_camera(focal, center_x, center_y, width, height)};
  int parts = job_parts(n);
  af_parallel(parts, project_backward_part, &job);
  for (int i = 0; i < 24; i++) {
    double total = 0;
    for (int part = 0; part < parts; part++)
      for (int l = 0; l < LANES; l++) total += sums[part][i][l];
    (i < 12 ? grad_head : grad_torso)[i % 12] = (float)total;
  }
  return AF_OK;
}
