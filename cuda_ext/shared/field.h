/* A radiance field that a grid of motion bends: what the columns of that grid mean. avatarfit/ops/field.py states the same. */
#ifndef AF_FIELD_H
#define AF_FIELD_H

#include "shared/constants.h"

#define AF_FIELD_DENSITY 3 /* log density; before it the displacement */
#define AF_FIELD_LOCAL 4   /* from here on: what the networks are told */
#define AF_FIELD_TOLD (AF_ATTRIBUTES - AF_FIELD_LOCAL)
#define AF_FIELD_LOG_DENSITY_MAX 8.0f

#endif
