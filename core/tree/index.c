/* SPDX-License-Identifier: Apache-2.0 */
/* Making a manifest: walk, hash what an older manifest does not know, write, put in place. */
#include "base/cleanup.h"
#include "base/io.h"
#include "tree/tree_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define NS_PER_S INT64_C(1000000000)
/* A file whose time is so near the older manifest's may have changed since without showing it. */
#define RACY_NS (2 * NS_PER_S)

struct index {
	const struct hither_tree_index_options *options;
	struct hither_tree_index_result *result;
	struct hither_error *err;
	char *root;       /* absolute; of a file: its folder */
	char *out_folder; /* absolute */
	char *base;
	uint32_t chunk_bytes;
	bool one_file;
	struct tree_entry *entries; /* their strings are ours */
	uint32_t count, room;
	struct tree_bytes hashes;
	uint64_t done, total;
	struct hither_tree *old; /* NULL: none */
	int64_t old_ns;
	unsigned char *chunk;
};

static void index_finish(struct index *x)
{
	for (uint32_t i = 0; i < x->count; i++) {
		free((void *)(uintptr_t)x->entries[i].path);
		free((void *)(uintptr_t)x->entries[i].target);
	}
	free(x->entries);
	free(x->root);
	free(x->out_folder);
	free(x->base);
	free(x->chunk);
	tree_bytes_finish(&x->hashes);
	hither_tree_destroy(x->old);
}

static int no_memory(struct index *x)
{
	return hither_fail(x->err, -ENOMEM, "index: no memory");
}

static void leave_out(struct index *x, const char *path, const char *why)
{
	x->result->left_out++;
	if (x->options->left_out)
		x->options->left_out(x->options->user, path, why);
}

/* --- what there is --- */

static int64_t ns_of(const struct timespec *t)
{
	return t->tv_sec * NS_PER_S + t->tv_nsec;
}

static int read_target(struct index *x, const char *path, const char **out)
{
	char text[TREE_PATH_MOST + 1];
	ssize_t len = readlink(path, text, sizeof text);
	if (len < 0)
		return hither_fail(x->err, -errno, "index: %s: %s", path, strerror(errno));
	if (len == sizeof text)
		return hither_fail(x->err, -ENAMETOOLONG, "index: the link %s is too long", path);
	*out = strndup(text, (size_t)len);
	return *out ? 0 : no_memory(x);
}

static int add(struct index *x, const char *full, const char *path, const struct stat *st)
{
	if (x->count == x->room) {
		uint32_t room = x->room ? x->room * 2 : 64;
		void *grown = realloc(x->entries, room * sizeof *x->entries);
		if (!grown)
			return no_memory(x);
		x->entries = grown;
		x->room = room;
	}
	struct tree_entry *e = &x->entries[x->count];
	*e = (struct tree_entry){.path = strdup(path),
	                         .mtime_ns = ns_of(&st->st_mtim),
	                         .mode = st->st_mode & 0777,
	                         .kind = S_ISDIR(st->st_mode)   ? HITHER_TREE_FOLDER
	                                 : S_ISLNK(st->st_mode) ? HITHER_TREE_LINK
	                                                        : HITHER_TREE_FILE};
	if (!e->path)
		return no_memory(x);
	x->count++;
	if (e->kind == HITHER_TREE_LINK)
		return read_target(x, full, &e->target);
	if (e->kind == HITHER_TREE_FILE) {
		e->size = (uint64_t)st->st_size;
		x->total += e->size;
	}
	return 0;
}

static bool ends(const char *name, const char *with)
{
	size_t len = strlen(name), tail = strlen(with);
	return len >= tail && !strcmp(name + len - tail, with);
}

/* Manifests and profiles beside the one that is written are about the tree, not of it. */
static bool is_ours(const struct index *x, const FTSENT *f)
{
	if (!ends(f->fts_name, ".hither") && !ends(f->fts_name, ".hither-profile") &&
	    !ends(f->fts_name, ".hither-new"))
		return false;
	size_t len = f->fts_pathlen - f->fts_namelen - 1;
	return strlen(x->out_folder) == len && !strncmp(f->fts_path, x->out_folder, len);
}

static int visit(struct index *x, const FTSENT *f)
{
	const char *path = f->fts_path + strlen(x->root) + (x->root[1] != 0);
	switch (f->fts_info) {
	case FTS_D:
		return f->fts_level ? add(x, f->fts_path, path, f->fts_statp) : 0;
	case FTS_F:
		return is_ours(x, f) ? 0 : add(x, f->fts_path, path, f->fts_statp);
	case FTS_SL:
	case FTS_SLNONE:
		return add(x, f->fts_path, path, f->fts_statp);
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		return hither_fail(x->err, -f->fts_errno, "index: %s: %s", f->fts_path,
		                   strerror(f->fts_errno));
	case FTS_DEFAULT:
		leave_out(x, path, "neither file, folder nor link");
		return 0;
	default:
		return 0;
	}
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int walk(struct index *x)
{
	char *const roots[] = {x->root, NULL};
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
	if (!fts)
		return hither_fail(x->err, -errno, "index: %s: %s", x->root, strerror(errno));
	int r = 0;
	const FTSENT *f;
	errno = 0;
	while (!r && (f = fts_read(fts)))
		r = visit(x, f);
	if (!r && errno)
		r = hither_fail(x->err, -errno, "index: %s: %s", x->root, strerror(errno));
	fts_close(fts);
	return r;
}

/* --- what it hashes to --- */

static bool known(const struct index *x, const struct tree_entry *e)
{
	uint32_t i = x->old ? tree_find(x->old, e->path) : UINT32_MAX;
	if (i == UINT32_MAX || x->old->chunk_bytes != x->chunk_bytes)
		return false;
	const struct hither_tree_node *n = &x->old->nodes[i];
	return n->kind == HITHER_TREE_FILE && n->size == e->size && n->mtime_ns == e->mtime_ns &&
	       e->mtime_ns < x->old_ns - RACY_NS;
}

static void progress(struct index *x, uint64_t bytes)
{
	x->done += bytes;
	if (x->options->progress)
		x->options->progress(x->options->user, x->done, x->total);
}

static int hash_file(struct index *x, const struct tree_entry *e)
{
	unsigned char hash[HITHER_HASH_BYTES];
	char path[2 * TREE_PATH_MOST];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s", x->root[1] ? x->root : "", e->path);
	HITHER_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return hither_fail(x->err, -errno, "index: %s: %s", path, strerror(errno));
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	for (uint64_t at = 0; at < e->size; at += x->chunk_bytes) {
		size_t len = e->size - at < x->chunk_bytes ? e->size - at : x->chunk_bytes;
		int r = hither_pread_all(fd, x->chunk, len, at);
		if (r == -EIO)
			break; /* shorter than it was: said below */
		if (r)
			return hither_fail(x->err, r, "index: %s: %s", path, strerror(-r));
		if (hither_sha256(x->chunk, len, hash))
			return no_memory(x);
		tree_bytes_add(&x->hashes, hash, sizeof hash);
		progress(x, len);
	}
	if (fstat(fd, &st) || (uint64_t)st.st_size != e->size || ns_of(&st.st_mtim) != e->mtime_ns)
		return hither_fail(x->err, -EAGAIN,
		                   "index: %s changed while it was read; try again when nobody "
		                   "writes there",
		                   path);
	x->result->hashed_bytes += e->size;
	return 0;
}

static int hash_all(struct index *x)
{
	x->chunk = malloc(x->chunk_bytes);
	int r = x->chunk ? 0 : no_memory(x);
	for (uint32_t i = 0; i < x->count && !r; i++) {
		const struct tree_entry *e = &x->entries[i];
		if (e->kind != HITHER_TREE_FILE || !e->size)
			continue;
		if (!known(x, e)) {
			r = hash_file(x, e);
			continue;
		}
		const struct hither_tree_node *n = &x->old->nodes[tree_find(x->old, e->path)];
		tree_bytes_add(&x->hashes, hither_tree_chunk_hash(x->old, n, 0),
		               tree_chunks(n->size, x->chunk_bytes) * HITHER_HASH_BYTES);
		progress(x, e->size);
	}
	return r ? r : x->hashes.failed ? no_memory(x) : 0;
}

/* --- where it goes --- */

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	HITHER_FREE char *folder =
	        slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	return folder ? realpath(folder, NULL) : NULL;
}

static int find_base(struct index *x)
{
	const char *given = x->options->base;
	size_t len = strlen(x->out_folder);
	if (given) {
		bool slash = !*given || given[strlen(given) - 1] == '/';
		if (asprintf(&x->base, "%s%s", given, slash ? "" : "/") < 0)
			x->base = NULL;
		else if (!tree_base_good(x->base))
			return hither_fail(x->err, -EINVAL,
			                   "index: --base %s: it is a folder seen from the "
			                   "manifest, not above it, such as game/",
			                   given);
	} else if (!strcmp(x->root, x->out_folder)) {
		x->base = strdup("");
	} else if (len == 1 || (!strncmp(x->root, x->out_folder, len) && x->root[len] == '/')) {
		if (asprintf(&x->base, "%s/", x->root + len + (len > 1)) < 0)
			x->base = NULL;
	} else {
		return hither_fail(x->err, -EINVAL,
		                   "index: %s is not below the manifest's folder %s: say by --base "
		                   "where the files will be, seen from the manifest",
		                   x->root, x->out_folder);
	}
	return x->base ? 0 : no_memory(x);
}

static void load_old(struct index *x, const char *out)
{
	struct stat st;
	HITHER_CLOSE int fd = open(out, O_RDONLY | O_CLOEXEC);
	if (x->options->rehash || fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) ||
	    st.st_size > (off_t)HITHER_MANIFEST_MOST_BYTES)
		return;
	HITHER_FREE char *bytes = malloc((size_t)st.st_size + 1);
	if (!bytes || hither_pread_all(fd, bytes, (size_t)st.st_size, 0))
		return;
	x->old_ns = ns_of(&st.st_mtim);
	if (tree_parse_any(bytes, (size_t)st.st_size, &x->old, NULL))
		x->old = NULL; /* no manifest, or none of ours: then all is hashed */
}

static int begin(struct index *x, const char *path, const char *out)
{
	struct stat st;
	if (stat(path, &st))
		return hither_fail(x->err, -errno, "index: %s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return hither_fail(x->err, -EINVAL, "index: %s is neither a folder nor a file",
		                   path);
	x->one_file = S_ISREG(st.st_mode);
	x->root = x->one_file ? folder_of(path) : realpath(path, NULL);
	x->out_folder = folder_of(out);
	if (!x->root || !x->out_folder)
		return hither_fail(x->err, -errno, "index: %s: %s", x->root ? out : path,
		                   strerror(errno));
	int r = find_base(x);
	if (r)
		return r;
	load_old(x, out);
	const char *slash = strrchr(path, '/');
	return x->one_file ? add(x, path, slash ? slash + 1 : path, &st) : walk(x);
}

/* --- writing --- */

/* Links may lead anywhere on a disk, but not out of a tree. */
static int drop_links(struct index *x, const struct hither_tree *t)
{
	uint32_t kept = 0, before = x->count;
	struct tree_follow follow = {0};
	for (uint32_t i = 0; i < before; i++) {
		struct tree_entry *e = &x->entries[i];
		uint32_t node = e->kind == HITHER_TREE_LINK ? tree_find(t, e->path) : 0;
		if (e->kind == HITHER_TREE_LINK && tree_link_leaves(t, node, &follow)) {
			leave_out(x, e->path, "a link that leads out of the tree");
			free((void *)(uintptr_t)e->path);
			free((void *)(uintptr_t)e->target);
		} else {
			x->entries[kept++] = *e;
		}
	}
	x->count = kept;
	return kept != before;
}

static int make(struct index *x, struct tree_bytes *out, struct hither_tree **t)
{
	*t = NULL;
	tree_bytes_finish(out);
	int r = tree_write(out, x->chunk_bytes, x->one_file ? TREE_ONE_FILE : 0, x->base,
	                   x->entries, x->count, x->hashes.bytes,
	                   x->hashes.len / HITHER_HASH_BYTES);
	if (r)
		return no_memory(x);
	if (out->len > HITHER_MANIFEST_MOST_BYTES)
		return hither_fail(x->err, -EFBIG, "index: too many files for one manifest");
	return tree_parse_any(out->bytes, out->len, t, x->err); /* what we write, we can read */
}

/*
 * The file that will take the place of the old manifest, empty. Who else makes one at this time
 * waits for us, or we for them, and the later one stays; until then whole ones are seen only. Where
 * files cannot be locked it has to be hoped for. The descriptor, or -errno.
 */
static int open_fresh(const char *path)
{
	for (;;) {
		struct stat ours, there;
		HITHER_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		if (fd < 0)
			return -errno;
		while (flock(fd, LOCK_EX) && errno == EINTR)
			;
		if (fstat(fd, &ours))
			return -errno;
		/* It may have been put in place while we waited. */
		if (stat(path, &there) || ours.st_ino != there.st_ino ||
		    ours.st_dev != there.st_dev)
			continue;
		return ftruncate(fd, 0) ? -errno : HITHER_TAKE(fd, -1);
	}
}

static int put(struct index *x, const struct tree_bytes *bytes, const char *out)
{
	HITHER_FREE char *fresh = NULL;
	if (asprintf(&fresh, "%s-new", out) < 0) {
		fresh = NULL;
		return no_memory(x);
	}
	HITHER_CLOSE int fd = open_fresh(fresh);
	int r = fd < 0 ? fd : hither_write_all(fd, bytes->bytes, bytes->len);
	if (!r && (fsync(fd) || rename(fresh, out)))
		r = -errno;
	if (!r)
		return 0;
	if (fd >= 0)
		unlink(fresh);
	return hither_fail(x->err, r, "index: write %s: %s", out, strerror(-r));
}

static void count(struct index *x, const struct hither_tree *t, size_t bytes)
{
	struct hither_tree_index_result *r = x->result;
	for (uint32_t i = 0; i < x->count; i++) {
		r->files += x->entries[i].kind == HITHER_TREE_FILE;
		r->folders += x->entries[i].kind == HITHER_TREE_FOLDER;
		r->links += x->entries[i].kind == HITHER_TREE_LINK;
	}
	r->file_bytes = t->file_bytes;
	r->manifest_bytes = bytes;
	memcpy(r->hash, t->hash, sizeof r->hash);
}

static int finish(struct index *x, const char *out)
{
	struct tree_bytes bytes = {0};
	struct hither_tree *t;
	int r = make(x, &bytes, &t);
	if (!r && drop_links(x, t)) {
		hither_tree_destroy(t);
		r = make(x, &bytes, &t);
	}
	if (!r)
		r = put(x, &bytes, out);
	if (!r)
		count(x, t, bytes.len);
	hither_tree_destroy(t);
	tree_bytes_finish(&bytes);
	return r;
}

int hither_tree_index(const char *path, const char *out,
                      const struct hither_tree_index_options *options,
                      struct hither_tree_index_result *result, struct hither_error *err)
{
	struct hither_tree_index_result own;
	static const struct hither_tree_index_options defaults;
	struct index x = {.options = options ? options : &defaults,
	                  .result = result ? result : &own,
	                  .err = err};
	*x.result = (struct hither_tree_index_result){0};
	uint32_t chunk = x.options->chunk_bytes;
	x.chunk_bytes = chunk ? chunk : 64 << 10;
	if (chunk && (chunk < TREE_CHUNK_LEAST || chunk > TREE_CHUNK_MOST || (chunk & (chunk - 1))))
		return hither_fail(err, -EINVAL,
		                   "index: chunks of %u bytes: a power of two from 4096 to "
		                   "16777216 was expected",
		                   chunk);
	int r = begin(&x, path, out);
	if (!r)
		r = hash_all(&x);
	if (!r)
		r = finish(&x, out);
	index_finish(&x);
	return r;
}
