/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store's folder, made in this order and deleted in the opposite one, but for `state`, which goes
 * first: a folder without it holds nothing worth keeping, whatever else is there.
 *
 *     cache_dir/
 *         0123456789abcdef/     XXH3-64 of the name; "-1" to "-15" behind it if two names share
 * that lock              its lock (OFD) is held while in use; pid in text; modified: last use url
 * two lines: the name without its secrets, XXH3-128 of the name with them data              the
 * bytes, sparse, as large as the resource state             the log, see store_log.c
 */
#include "chunk/store_folder.h"

#include "backend/url.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "chunk/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	HASH_DIGITS = 16,
	CHECK_DIGITS = 32,
	MOST_COLLISIONS = 16,
	MOST_RACES = 16,
	URL_FILE_BYTES = HITHER_STORE_NAME_BYTES + CHECK_DIGITS + 2,
};

static char boot_id_override[HITHER_LOG_BOOT_BYTES];

void hither_store_set_boot_id(const char *boot_id)
{
	snprintf(boot_id_override, sizeof boot_id_override, "%s", boot_id ? boot_id : "");
}

void hither_store_boot_id(char boot_id[HITHER_LOG_BOOT_BYTES])
{
	memset(boot_id, 0, HITHER_LOG_BOOT_BYTES);
	if (*boot_id_override) {
		memcpy(boot_id, boot_id_override, HITHER_LOG_BOOT_BYTES);
		return;
	}
	/* Without one, no boot is the same as another: the careful answer. */
	HITHER_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, boot_id, HITHER_LOG_BOOT_BYTES - 1);
	boot_id[n > 0 ? strcspn(boot_id, "\n") : 0] = 0;
}

int hither_store_folder_read(int dir_fd, const char *file, void **out, size_t *len)
{
	struct stat st;
	HITHER_CLOSE int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	HITHER_FREE char *buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return -ENOMEM;
	int r = hither_pread_all(fd, buf, (size_t)st.st_size, 0);
	if (r)
		return r;
	buf[st.st_size] = 0;
	*len = (size_t)st.st_size;
	*out = HITHER_TAKE(buf, NULL);
	return 0;
}

/* --- whose it is --- */

static void url_text(const char *name, char out[URL_FILE_BYTES])
{
	char shown[HITHER_STORE_NAME_BYTES];
	hither_url_redact(name, shown, sizeof shown);
	for (char *p = shown; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	XXH128_hash_t check = XXH3_128bits(name, strlen(name));
	snprintf(out, URL_FILE_BYTES, "%s\n%016llx%016llx\n", shown,
	         (unsigned long long)check.high64, (unsigned long long)check.low64);
}

/*
 * Renamed into place, so that it is whole or missing; after a crash of the machine it may also be
 * empty, until hither_store_folder_sync().
 */
static int write_url(int dir_fd, const char *text)
{
	HITHER_CLOSE int fd =
	        openat(dir_fd, "url.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = hither_write_all(fd, text, strlen(text));
	if (!r && renameat(dir_fd, "url.new", dir_fd, "url") < 0)
		r = -errno;
	if (r)
		unlinkat(dir_fd, "url.new", 0);
	return r;
}

int hither_store_folder_sync(const struct hither_store_folder *f)
{
	HITHER_CLOSE int fd = openat(f->dir_fd, "url", O_RDONLY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 || fsync(f->dir_fd) < 0 ? -errno : 0;
}

/* What survives a crash of this machine is known by its log alone; may it go unasked? */
static bool promises_nothing(int dir_fd)
{
	struct hither_store_state state = {0};
	int r = hither_store_state_read("", dir_fd, &state, NULL);
	uint64_t dirty = r ? 0 : hither_block_map_count(state.map, HITHER_BLOCK_DIRTY);
	hither_block_map_destroy(state.map);
	return r == -ENOENT || (!r && !dirty);
}

/* Of a store that was begun just before the machine went down; before it has a name of its own. */
static int clear_state(int dir_fd)
{
	if (unlinkat(dir_fd, "state", 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return fsync(dir_fd) < 0 ? -errno : 0;
}

enum owner { OURS, ANOTHERS, NOBODYS, BROKEN };

static enum owner whose(int dir_fd, const char *text)
{
	HITHER_FREE void *found = NULL;
	size_t len;
	int r = hither_store_folder_read(dir_fd, "url", &found, &len);
	if (r == -ENOENT)
		return faccessat(dir_fd, "state", F_OK, 0) == 0 ? BROKEN : NOBODYS;
	if (!r && len == 0 && promises_nothing(dir_fd))
		return NOBODYS; /* the kernel writes files back in any order */
	if (r)
		return BROKEN;
	/* The second line alone says whose: how the first hides secrets may change some day. */
	const char *check = strchr(text, '\n') + 1;
	const char *found_check = memchr(found, '\n', len);
	if (!found_check || strlen(found_check + 1) != strlen(check))
		return BROKEN;
	return strcmp(found_check + 1, check) == 0 ? OURS : ANOTHERS;
}

void hither_store_folder_name(int dir_fd, char name[HITHER_STORE_NAME_BYTES])
{
	HITHER_FREE void *text = NULL;
	size_t len;
	*name = 0;
	if (hither_store_folder_read(dir_fd, "url", &text, &len) == 0)
		snprintf(name, HITHER_STORE_NAME_BYTES, "%.*s", (int)strcspn(text, "\n"),
		         (const char *)text);
}

bool hither_store_folder_is_one(const char *entry)
{
	if (strspn(entry, "0123456789abcdef") != HASH_DIGITS)
		return false;
	const char *rest = entry + HASH_DIGITS;
	return *rest == 0 || (*rest == '-' && strspn(rest + 1, "0123456789") == strlen(rest + 1));
}

/* --- the lock --- */

/*
 * An OFD lock: like flock() it belongs to the open file and goes with the process, but it can also
 * be looked at without being taken, so that listing a cache never gets in the way of a mount.
 */
static struct flock whole_file(void)
{
	return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
}

bool hither_store_folder_in_use(int dir_fd)
{
	struct flock lock = whole_file();
	HITHER_CLOSE int fd = openat(dir_fd, "lock", O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int busy(const struct hither_store_folder *f, int lock_fd, struct hither_error *err)
{
	char pid[16] = "", name[HITHER_STORE_NAME_BYTES];
	hither_store_folder_name(f->dir_fd, name); /* "": it is just being made */
	ssize_t n = pread(lock_fd, pid, sizeof pid - 1, 0);
	pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
	return hither_fail(
	        err, -EBUSY,
	        "%.200s: in use by process %s, which has its cache (%s): use it there, end it "
	        "(unmount), or use another cache folder (--cache DIR, or none)",
	        *name ? name : f->path, *pid ? pid : "unknown", f->path);
}

/* 0; -EAGAIN: the folder was deleted meanwhile. */
static int take_lock(struct hither_store_folder *f, bool create, struct hither_error *err)
{
	struct flock lock = whole_file();
	struct stat st;
	char pid[16];
	HITHER_CLOSE int fd =
	        openat(f->dir_fd, "lock", O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
	if (fd < 0 && errno == ENOENT)
		return -EAGAIN;
	if (fd < 0)
		return hither_fail(err, -errno, "%s/lock: %s", f->path, strerror(errno));
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		if (errno == EAGAIN || errno == EACCES)
			return busy(f, fd, err);
		return hither_fail(err, -errno, "%s/lock: locking: %s", f->path, strerror(errno));
	}
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -EAGAIN;
	/* For people only; the lock holds on a full disk too. */
	int len = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
	if (ftruncate(fd, 0) == 0)
		(void)hither_pwrite_all(fd, pid, (size_t)len, 0);
	f->lock_fd = HITHER_TAKE(fd, -1);
	return 0;
}

/* --- finding it --- */

void hither_store_folder_close(struct hither_store_folder *f)
{
	if (f->lock_fd >= 0) {
		futimens(f->lock_fd, NULL);
		close(f->lock_fd);
	}
	if (f->dir_fd >= 0)
		close(f->dir_fd);
	free(f->path);
	*f = (struct hither_store_folder){.dir_fd = -1, .lock_fd = -1};
}

static int open_dir(struct hither_store_folder *f, bool create, struct hither_error *err)
{
	if (create && mkdir(f->path, 0700) < 0 && errno != EEXIST)
		return hither_fail(err, -errno, "%s: cannot make this folder: %s", f->path,
		                   strerror(errno));
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dir_fd < 0 && errno == ENOENT)
		return create ? -EAGAIN : -ENOENT;
	if (f->dir_fd < 0)
		return hither_fail(err, -errno, "%s: %s", f->path, strerror(errno));
	return 0;
}

static int broken(const char *path, struct hither_error *err)
{
	return hither_fail(err, -EUCLEAN,
	                   "%s/url: missing or damaged, so whose store this is cannot be told; "
	                   "move the folder away or delete it to start anew",
	                   path);
}

/* One candidate. 0; -EEXIST: another name's; -EAGAIN: it was deleted under our hands; -ENOENT. */
static int try_folder(struct hither_store_folder *f, const char *text, bool create,
                      struct hither_error *err)
{
	int r = open_dir(f, create, err);
	if (r)
		return r;
	/* Before the lock, which for another name's store would only be in the way. */
	if (whose(f->dir_fd, text) == ANOTHERS)
		return -EEXIST;
	r = take_lock(f, create, err);
	if (r)
		return r == -EAGAIN && !create ? -ENOENT : r;
	switch (whose(f->dir_fd, text)) {
	case OURS:
		return 0;
	case ANOTHERS:
		return -EEXIST;
	case BROKEN:
		return broken(f->path, err);
	case NOBODYS:
		break;
	}
	if (!create)
		return -ENOENT;
	r = clear_state(f->dir_fd);
	if (!r)
		r = write_url(f->dir_fd, text);
	return r ? hither_fail(err, r, "%s/url: %s", f->path, strerror(-r)) : 0;
}

static int make_cache_dir(const char *cache_dir, struct hither_error *err)
{
	int r = hither_mkdir_all(cache_dir);
	return r ? hither_fail(err, r,
	                       "%s: cannot make this cache folder: %s; use another one (--cache "
	                       "DIR, or none)",
	                       cache_dir, strerror(-r))
	         : 0;
}

int hither_store_folder_open(const char *cache_dir, const char *name, bool create,
                             struct hither_store_folder *out, struct hither_error *err)
{
	char text[URL_FILE_BYTES];
	int r = create ? make_cache_dir(cache_dir, err) : 0;
	if (r)
		return r;
	url_text(name, text);
	for (int suffix = 0, races = 0; r == 0 && suffix < MOST_COLLISIONS;) {
		struct hither_store_folder f = {.dir_fd = -1, .lock_fd = -1};
		char end[8] = "";
		if (suffix)
			snprintf(end, sizeof end, "-%d", suffix);
		if (asprintf(&f.path, "%s/%016llx%s", cache_dir,
		             (unsigned long long)XXH3_64bits(name, strlen(name)), end) < 0)
			return hither_fail(err, -ENOMEM, "%s: no memory", cache_dir);
		r = try_folder(&f, text, create, err);
		if (r == 0) {
			*out = f;
			return 0;
		}
		hither_store_folder_close(&f);
		if (r == -EEXIST)
			suffix++, r = 0;
		else if (r == -EAGAIN && races++ < MOST_RACES)
			r = 0;
	}
	if (r == -ENOENT)
		return hither_fail(err, r, "%s: nothing is kept of %.*s", cache_dir,
		                   (int)strcspn(text, "\n"), text);
	if (r == 0 || r == -EAGAIN)
		return hither_fail(err, -EBUSY,
		                   "%s: cannot make a folder for %.*s: too many collide", cache_dir,
		                   (int)strcspn(text, "\n"), text);
	return r;
}

int hither_store_folder_at(const char *path, struct hither_store_folder *out,
                           struct hither_error *err)
{
	*out = (struct hither_store_folder){.path = strdup(path), .dir_fd = -1, .lock_fd = -1};
	int r = out->path ? open_dir(out, false, err) : -ENOMEM;
	if (!r)
		r = take_lock(out, false, err);
	if (!r)
		return 0;
	hither_store_folder_close(out);
	return r == -ENOENT || r == -EAGAIN
	               ? hither_fail(err, -ENOENT, "%s: there is no store", path)
	               : r;
}

/* --- state --- */

/* If not, nothing was ever stored, so nothing dirty was. Files this small may need no blocks. */
static bool has_bytes(int dir_fd)
{
	struct stat st;
	return fstatat(dir_fd, "data", &st, 0) == 0 &&
	       (st.st_blocks > 0 || (st.st_size > 0 && st.st_size < HITHER_BLOCK_BYTES));
}

/* What to say of a state that cannot be used; err has why. */
static int unusable(const char *path, int code, struct hither_error *err)
{
	char why[sizeof err->message] = "";
	hither_error_prefix(err, "%s/state", path);
	if (code != -EUCLEAN || !err)
		return code;
	memcpy(why, err->message, sizeof why);
	return hither_fail(
	        err, code,
	        "%s; changes not pushed yet may be in it: move the folder away, or delete "
	        "it to start anew",
	        why);
}

static int replay(const char *path, int dir_fd, const void *log, size_t len,
                  struct hither_store_state *out, struct hither_error *err)
{
	char boot_id[HITHER_LOG_BOOT_BYTES];
	struct stat st;
	hither_store_boot_id(boot_id);
	uint64_t size = out->header.identity.size_bytes;
	int r = hither_log_replay(log, len, &out->header, boot_id, out->map, &out->outcome, err);
	if (r)
		return r == -EUCLEAN && !has_bytes(dir_fd) ? -ENOENT : unusable(path, r, err);
	if (fstatat(dir_fd, "data", &st, 0) == 0 && (uint64_t)st.st_size == size)
		return 0;
	/* Cut off in the middle of a reset; or somebody has been at it. */
	if (hither_block_map_count(out->map, HITHER_BLOCK_DIRTY) == 0)
		return -ENOENT;
	hither_fail(err, -EUCLEAN, "says %llu bytes, but data is missing or of another size",
	            (unsigned long long)size);
	return unusable(path, -EUCLEAN, err);
}

int hither_store_state_read(const char *path, int dir_fd, struct hither_store_state *out,
                            struct hither_error *err)
{
	HITHER_FREE void *log = NULL;
	size_t len;
	out->map = NULL;
	int r = hither_store_folder_read(dir_fd, "state", &log, &len);
	if (r == -ENOENT)
		return r;
	if (r)
		return hither_fail(err, r, "%s/state: %s", path, strerror(-r));
	if (len == 0)
		return -ENOENT; /* the machine went down before it was first made durable */
	r = hither_log_read_header(log, len, &out->header, err);
	if (r)
		return has_bytes(dir_fd) ? unusable(path, r, err) : -ENOENT;
	out->map = hither_block_map_create(hither_log_blocks(out->header.identity.size_bytes));
	if (!out->map)
		return hither_fail(err, -ENOMEM, "%s/state: no memory for its block map", path);
	r = replay(path, dir_fd, log, len, out, err);
	if (r) {
		hither_block_map_destroy(out->map);
		out->map = NULL;
	}
	return r;
}
