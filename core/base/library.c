/* SPDX-License-Identifier: Apache-2.0 */
#include "base/library.h"

#include "base/cleanup.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

static int find_all(const struct hither_library *library, void *handle, struct hither_error *err)
{
	for (size_t i = 0; i < library->symbol_count; i++) {
		const struct hither_library_symbol *s = &library->symbols[i];
		void *found = dlsym(handle, s->name);
		if (!found)
			return hither_fail(err, -ELIBACC, "%s is too old: it has no %s",
			                   library->files[0], s->name);
		memcpy(s->function, &found, sizeof found);
	}
	return 0;
}

int hither_library_load(struct hither_library *library, struct hither_error *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	HITHER_LOCK_SCOPE(&lock);
	if (library->loaded)
		return 0;
	void *handle = NULL;
	for (size_t i = 0; library->files[i] && !handle; i++)
		handle = dlopen(library->files[i], RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	if (!handle)
		return hither_fail(err, -ELIBACC, "%s cannot be loaded (%s); install %s",
		                   library->files[0], dlerror(), library->package);
	int r = find_all(library, handle, err);
	if (r)
		return r;
	if (library->start)
		library->start();
	library->loaded = true;
	return 0;
}
