/* SPDX-License-Identifier: Apache-2.0 */
/* hither export, as a process: its volumes, and what others see of it and can ask of it. */
#ifndef HITHER_APP_EXPORTER_H
#define HITHER_APP_EXPORTER_H

#include "control.h"
#include "puller.h"
#include "runtime.h"
#include "settings.h"

#include <hither/export.h>
#include <pthread.h>

enum { MAX_VOLUMES = 32 };

struct volume {
	char *url, *shown, *name;
	struct hither_mount *mount;
	bool near; /* see source_is_near(): without a cache */
};

struct exporter {
	struct settings *settings;
	struct volume volumes[MAX_VOLUMES];
	size_t count;
	int report_fd; /* to the waiting parent; -1 in the foreground */
	struct hither_export *server;
	struct runtime_entry entry;
	struct control *control;
	int64_t started_at;
	char *addresses, *urls; /* as others see them: a line each; with ", " between them */
	struct puller puller;
	struct hither_mount *pulls[MAX_VOLUMES]; /* for it, until it has been stopped */

	pthread_mutex_t lock; /* guards the rest, and closing mounts */
	bool serving, over, forced;
};

/* Start its control thread. */
int exporter_control(struct exporter *x, struct hither_error *err);
/* It listens: from now on others can find it, and end it. */
int exporter_publish(struct exporter *x, struct hither_error *err);
/* The k'th way to a volume, as a URL, which the caller frees; NULL: there are not so many, or no
 * memory. */
char *exporter_address(const struct exporter *x, const struct volume *v, size_t k);

#endif
