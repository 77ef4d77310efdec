/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of profiles: which bytes were read when, and where the reader waited. */
#ifndef HITHER_APP_PLOT_H
#define HITHER_APP_PLOT_H

#include <hither/profile.h>
#include <hither/tree.h>

/*
 * Write an SVG, a picture below each other for each profile, with its name. tree: what they are of,
 * whose files are drawn apart and named; NULL: not known. Any -errno.
 */
int plot_write(const char *path, const struct hither_profile *profiles, const char *const *names,
               size_t count, const struct hither_tree *tree, struct hither_error *err);

#endif
