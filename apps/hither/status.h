/* SPDX-License-Identifier: Apache-2.0 */
/* What hither status has collected, and a way of showing it. */
#ifndef HITHER_APP_STATUS_H
#define HITHER_APP_STATUS_H

#include <stdbool.h>
#include <stddef.h>

struct status_list {
	char **objects; /* JSON, of a mount or an export each */
	size_t count;
};

/* Its daemon lives, and answers. */
bool status_is_up(const char *object);

/* To standard output. */
void status_show_metrics(const struct status_list *live, const struct status_list *exports);

#endif
