/* SPDX-License-Identifier: Apache-2.0 */
#include "base/library.h"

#include "base/cleanup.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

static int open_file(const struct hither_library *library, const char *file, void **handle,
                     struct hither_error *err)
{
	*handle = dlopen(file, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	return *handle ? 0
	               : hither_fail(err, -ELIBACC, "%s cannot be loaded (%s); install %s", file,
	                             dlerror(), library->package);
}

static int find_all(const struct hither_library *library, const char *file, void *handle,
                    struct hither_error *err)
{
	for (size_t i = 0; i < library->symbol_count; i++) {
		const struct hither_library_symbol *s = &library->symbols[i];
		void *found = dlsym(handle, s->name);
		if (!found)
			return hither_fail(err, -ELIBACC, "%s is too old: it has no %s", file,
			                   s->name);
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
	int r = -ELIBACC;
	for (size_t i = 0; library->files[i] && r; i++) {
		struct hither_error *told =
		        i ? NULL : err; /* of the first, which is the usual one */
		void *handle;
		r = open_file(library, library->files[i], &handle, told);
		if (!r)
			r = find_all(library, library->files[i], handle, told);
	}
	if (r)
		return r;
	if (err)
		*err = (struct hither_error){0};
	if (library->start)
		library->start();
	library->loaded = true;
	return 0;
}
