/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the other files of a database are: "URL-journal", "URL-wal", and "URL-mj..." of a
 * transaction over several databases (https://www.sqlite.org/atomiccommit.html, 5.1). Its
 * super-journal belongs to one of them, and as long as it is there the journals of all are hot: so
 * who opens only one of the others after a crash must find it, or would take half a transaction for
 * a whole one.
 */
#include "base/cleanup.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void hsq_names_free(struct hsq_name *names)
{
	while (names) {
		struct hsq_name *name = names;
		names = name->next;
		free(name->path);
		free(name);
	}
}

/*
 * Keep the path as long as s. No '-' in the last part: the unix VFS would look for a database named
 * like the part before it.
 */
static const char *keep(struct hsq_share *s, const char *folder, const char *suffix)
{
	HITHER_LOCK_SCOPE(&s->lock);
	HITHER_FREE char *path = NULL;
	if (strchr(suffix, '/') || asprintf(&path, "%s/db.%s", folder, suffix) < 0) {
		path = NULL;
		return NULL;
	}
	for (const struct hsq_name *n = s->names; n; n = n->next)
		if (!strcmp(n->path, path))
			return n->path;
	struct hsq_name *name = malloc(sizeof *name);
	if (!name)
		return NULL;
	*name = (struct hsq_name){.next = s->names, .path = HITHER_TAKE(path, NULL)};
	s->names = name;
	return name->path;
}

struct search {
	const char *name;
	size_t url_len; /* of a database that is not open, or of the best */
	struct hsq_share *best;
	const char *path;
	bool folder_seen;
};

/* --- a database that is open --- */

static bool is_of(struct hsq_share *s, void *user)
{
	struct search *f = user;
	size_t n = strlen(s->url);
	if (n > f->url_len && !strncmp(f->name, s->url, n) && f->name[n] == '-') {
		f->url_len = n;
		f->best = s;
		f->path = keep(s, s->owner.dir, f->name + n + 1);
	}
	return false;
}

/* --- one that is not --- */

/* "mj%06X9%02X", as SQLite names it. */
static bool is_super(const char *suffix)
{
	if (strlen(suffix) != 11 || strncmp(suffix, "mj", 2) != 0)
		return false;
	for (const char *c = suffix + 2; *c; c++)
		if (!isxdigit((unsigned char)*c))
			return false;
	return true;
}

static bool is_beside(struct hsq_share *s, void *user)
{
	struct search *f = user;
	HITHER_FREE char *folder = hsq_owner_neighbour(&s->owner, f->name, f->url_len);
	if (!folder || access(folder, F_OK))
		return false;
	f->folder_seen = true;
	const char *path = keep(s, folder, f->name + f->url_len + 1);
	if (!path || access(path, F_OK))
		return false;
	f->path = path;
	return true;
}

/* --- a super-journal that is to be made --- */

static bool is_elsewhere(struct hsq_share *s, void *user)
{
	const char **path = user, *dir = s->owner.dir;
	size_t n = (size_t)(strrchr(dir, '/') - dir);
	/* BASE/FOLDER/db.mj... and BASE/FOLDER: all folders' names are of one length */
	bool same = !strncmp(*path, dir, n + 1) && strrchr(*path, '/') == *path + strlen(dir);
	if (!same)
		*path = NULL;
	return !same;
}

int hsq_check_super(const char *name, const char *path)
{
	hsq_share_each(is_elsewhere, &path);
	return path ? SQLITE_OK
	            : hsq_failf(SQLITE_CANTOPEN,
	                        "%s: databases of one transaction must have their journals in the "
	                        "same folder, or a crash could leave half of it: open all with the "
	                        "same state=DIR",
	                        name);
}

const char *hsq_local_path(const char *name, bool *unknown)
{
	struct search f = {.name = name};
	if (unknown)
		*unknown = false;
	hsq_share_each(is_of, &f);
	if (f.best)
		return f.path;
	const char *suffix = strrchr(name, '-');
	if (!suffix || (!is_super(suffix + 1) && strcmp(suffix, "-journal") != 0))
		return NULL;
	f.url_len = (size_t)(suffix - name);
	hsq_share_each(is_beside, &f);
	if (unknown)
		*unknown = !f.folder_seen && is_super(suffix + 1);
	return f.path;
}
