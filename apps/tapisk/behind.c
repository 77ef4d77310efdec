/* SPDX-License-Identifier: Apache-2.0 */
/* What was written to a tape and is not on it: it waits in the cache for the next mount. */
#include "tapisk.h"

#include "settings.h"

#include <hither/cache.h>
#include <string.h>
#include <sys/stat.h>

struct look {
	struct stat tape;
	uint64_t bytes;
};

static int consider(void *user, const struct hither_cache_entry *entry)
{
	static const char scheme[] = "tape:";
	struct look *l = user;
	struct stat st;
	if (!entry->error && entry->dirty_bytes &&
	    !strncmp(entry->name, scheme, sizeof scheme - 1) &&
	    !stat(entry->name + sizeof scheme - 1, &st) && st.st_dev == l->tape.st_dev &&
	    st.st_ino == l->tape.st_ino)
		l->bytes += entry->dirty_bytes;
	return 0;
}

uint64_t bytes_behind(const char *tape)
{
	struct look l = {0};
	struct settings s;
	settings_init(&s);
	const char *dir = settings_cache_dir(&s, NULL);
	if (dir && !stat(tape, &l.tape))
		hither_cache_list(dir, consider, &l, NULL);
	settings_finish(&s);
	return l.bytes;
}
