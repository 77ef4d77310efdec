/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of profiles: which bytes were read when, and where the reader waited. */
#ifndef HITHER_APP_PLOT_H
#define HITHER_APP_PLOT_H

#include <hither/profile.h>

/* Write an SVG, a picture below each other for each profile, with its name. Any -errno. */
int plot_write(const char *path, const struct hither_profile *profiles, const char *const *names,
               size_t count, struct hither_error *err);

#endif
