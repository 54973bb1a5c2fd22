/* One number's Adam step (Kingma and Ba 2015), with the bias corrections and decoupled decay folded in beforehand. */
#ifndef AF_ADAM_H
#define AF_ADAM_H

#include <math.h>

#include "shared/constants.h"

typedef struct {
  float rest1, beta2, rest2, eps; /* rest = 1 - beta, rounded once */
  float root_factor; /* 1 / sqrt(1 - beta2^step) */
} af_adam;

/* lr carries 1 / (1 - beta1^step); keep is 1 - lr * weight decay. */
static AF_HD void af_adam_step(float *value, float *first, float *second, float grad, float lr, float keep,
                               af_adam adam) {
  float m = *first + adam.rest1 * (grad - *first);
  float v = adam.beta2 * *second + adam.rest2 * grad * grad;
  *first = m;
  *second = v;
  *value = *value * keep - lr * m / (sqrtf(v) * adam.root_factor + adam.eps);
}

#endif
