/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite VFS, inside.
 *
 *     vfs.c     the VFS's methods; which names are ours       file.c    a database file's methods
 *     share.c   one mount a URL, shared by connections        params.c  URI parameters
 *     lock.c    locks among connections of this process       shm.c     the WAL index, in memory
 *     owner.c   this process has the database for writing     guard.c   a second writer elsewhere
 *     beside.c  what lies beside the database on its server   error.c   the latest failure
 *     follow.c  from one version of the database to the next  keep.c    what both have in common
 *     names.c   where journals and super-journals are
 *
 * A database that cannot be written is immutable to SQLite: no locks, no journals. Its version is
 * the mount's concern (-ESTALE). A writable one belongs to one process (owner.c), since each
 * process has a copy of its own; its journal and WAL are files in a local folder.
 *
 * Why a SIGKILL, a power loss or an outage leaves every transaction whole, though pages are pushed
 * in the background, in any order, at any time: SQLite has made the journal durable before it
 * writes the first page of the database, so whatever subset of a transaction's pages has reached
 * the backend or the store, the journal has what was there before. It deletes the journal, which
 * is the commit, only after xSync has returned: then the backend (sync=remote) or the store on disk
 * (sync=local) has all of them, and a store keeps what is dirty until it is pushed. Hence a hot
 * journal and the store that it goes with must be opened together: owner.c keeps the store's name
 * beside the journal. A WAL is the same with roles exchanged: its frames are durable before a
 * checkpoint writes pages, and it is reset only after the checkpoint's xSync; but a COMMIT in WAL
 * mode is only in the local WAL, so it is refused with sync=remote.
 */
#ifndef HITHER_FRONTEND_SQLITE_VFS_H
#define HITHER_FRONTEND_SQLITE_VFS_H

#include <hither/mount.h>
#include <hither/sqlite.h>
#include <pthread.h>
#include <sqlite3ext.h>
#include <stdatomic.h>

#ifndef HSQ_EXTENSION_MAIN
SQLITE_EXTENSION_INIT3
#endif

enum { HSQ_HEADER_BYTES = 100 /* https://www.sqlite.org/fileformat2.html, 1.3 */ };

/* --- error.c --- */

/* Keep err's message for whoever asks, tell SQLite's log, and return code. */
int hsq_fail(int code, const struct hither_error *err);
int hsq_failf(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* From now on messages go to stderr, too. */
void hsq_tell(void);
/* The errno of this thread's latest failure to open, read or write, once; 0: none. */
int hsq_take_errno(void);

/* --- params.c --- */

struct hsq_params {
	struct hither_mount_options mount; /* its strings are the file name's */
	const char *state_dir;             /* NULL: the default */
	bool no_profile;                   /* nor the one beside the database */
	bool ignore_beside;
	bool follow;
};
/* What the name that xOpen got says; pointers stay valid as long as the name. A SQLite code. */
int hsq_params_parse(const char *name, struct hsq_params *out);

/* --- owner.c --- */

/* The local folder of a database that can be written, and the right to do so. */
struct hsq_owner {
	int lock_fd; /* -1: none */
	char *dir;   /* NULL: none */
};
/*
 * Have the database for writing, or (!write) see that nobody else has. SQLITE_BUSY: another process
 * has it; SQLITE_CANTOPEN: a hot journal goes with another cache. Reading makes no folder.
 */
int hsq_owner_take(const char *url, const struct hsq_params *params, bool write,
                   struct hsq_owner *out);
/* The folder that another database (len bytes of url) has where o has its own. The caller frees it.
 * NULL: no memory, or none. */
char *hsq_owner_neighbour(const struct hsq_owner *o, const char *url, size_t len);
void hsq_owner_release(struct hsq_owner *o);

/* --- beside.c --- */

struct hsq_beside;
/* The URL of what lies beside url under its name and a suffix. The caller frees it. NULL: no
 * memory.
 */
char *hsq_sibling(const char *url, const char *suffix);
/* Look, in the background, what lies beside url. NULL: nothing to look for, or no memory. */
struct hsq_beside *hsq_beside_start(const char *url, const struct hsq_params *params);
/* The mount is there: a profile that was found is for it. */
void hsq_beside_mount(struct hsq_beside *b, struct hither_mount *m);
/* Wait for the answer about journal and WAL: SQLITE_OK, or why the database must not be read. */
int hsq_beside_wait(struct hsq_beside *b);
void hsq_beside_destroy(struct hsq_beside *b); /* NULL is fine */

/* --- share.c --- */

struct hsq_file;

/* Where other files of the database are: strings that live as long as the share. */
struct hsq_name {
	struct hsq_name *next;
	char *path;
};

enum { HSQ_AGAIN_NAMES = 2 };

enum hsq_share_state { HSQ_OPENING, HSQ_OPEN, HSQ_CLOSING, HSQ_FAILED };

/* Headers that the backend may have, by what we know; kept in a file with sync=local. */
struct hsq_there {
	bool known;
	unsigned char flushed[HSQ_HEADER_BYTES]; /* where a server fell back to that went down */
	unsigned char taken[HSQ_HEADER_BYTES];   /* the last one that it took */
	unsigned char sent[HSQ_HEADER_BYTES];    /* and one that it may have taken */
};

struct hsq_shm {
	void **regions;
	int region_count, region_bytes;
	unsigned readers[SQLITE_SHM_NLOCK];
	struct hsq_file *writer[SQLITE_SHM_NLOCK];
};

struct hsq_share {
	/* the registry's, under its lock */
	struct hsq_share *next;
	unsigned refs;
	enum hsq_share_state state;
	int code;         /* FAILED: why */
	unsigned process; /* fixed: whose it is, see hsq_share_here() */
	/* fixed while OPEN */
	char *url;
	struct hither_mount *mount;
	struct hsq_beside *beside;
	struct hsq_owner owner;
	bool writable;
	bool recording; /* the mount must see every read */
	enum hither_sync sync;
	uint32_t deadline_ms;
	_Atomic int local_fd;  /* of the store, once all is there; -1 before */
	_Atomic bool answered; /* beside has, and all is well */

	pthread_mutex_t lock; /* guards these */
	struct hsq_name *names;
	unsigned shared;          /* files that hold SHARED or more */
	struct hsq_file *writer;  /* holds RESERVED or more */
	struct hsq_file *pending; /* keeps new readers out: PENDING or EXCLUSIVE */
	struct hsq_shm shm;

	/* follow.c's: of a database that is followed from version to version */
	bool follow;                        /* fixed */
	struct hsq_params again;            /* fixed: how to open the next version */
	char *again_names[HSQ_AGAIN_NAMES]; /* owned; what `again` points to */
	pthread_rwlock_t mount_lock; /* of mount (NULL: could not be opened again), beside, epoch;
	                                under `lock` */
	uint64_t look_again_ns;      /* under `lock` */
	uint32_t epoch;              /* versions so far, less one */

	pthread_mutex_t guard_lock; /* guards the rest, which is guard.c's */
	struct hither_mount *guard; /* direct */
	uint64_t guard_again_ns;    /* when to look again */
	uint64_t guard_blind_ns;    /* until then, not from aside */
	struct hsq_there there;
	bool foreign; /* a second writer was seen */
};

struct hsq_file {
	sqlite3_file base;
	struct hsq_share *share;
	int level; /* SQLITE_LOCK_*, under share->lock */
	bool readonly;
	bool has_shm;
	uint16_t shm_shared, shm_exclusive; /* locks held, a bit each */
	unsigned reads;                     /* while some bytes are not local */
	uint32_t epoch;                     /* follow.c: that SQLite knows of */
	struct hither_sqlite_observer observer;
};

/* The share of url, opened if need be. Blocks. write: wanted, not required. A SQLite code. */
int hsq_share_get(const char *url, const struct hsq_params *params, bool write,
                  struct hsq_share **out);
void hsq_share_put(struct hsq_share *s);
/* Is it this process's? One that was inherited over fork() is without its threads. */
bool hsq_share_here(const struct hsq_share *s);
/* Unless it is: say so. A SQLite code. */
int hsq_share_check(const struct hsq_share *s);
/*
 * Call visit for each open share that is written, until it is done with: true. The registry's lock
 * is held.
 */
void hsq_share_each(bool (*visit)(struct hsq_share *s, void *user), void *user);

/* --- names.c --- */

/*
 * The local path of "URL-journal" and the like: of a database that is open for writing, or one that
 * a transaction over several databases tells of and that is there. It lives as long as a share.
 * NULL: there is none. *unknown (NULL is fine): it is not known whether there is.
 */
const char *hsq_local_path(const char *name, bool *unknown);
/*
 * A super-journal is to be made at path: SQLITE_OK if whoever opens one of this process's databases
 * after a crash will find it. A SQLite code.
 */
int hsq_check_super(const char *name, const char *path);
void hsq_names_free(struct hsq_name *names);

/* Open s->mount. 0 or -errno. */
int hsq_open_mount(struct hsq_share *s, const struct hsq_params *params, bool write,
                   struct hither_error *err);

/* Read, wait, and tell whether it had to; in file.c. 0 or -errno. */
int hsq_read(struct hsq_share *s, void *buf, size_t len, uint64_t offset, bool *waited,
             struct hither_error *err);
extern const sqlite3_io_methods hsq_plain_methods, hsq_wal_methods;

/* --- lock.c: SQLite codes --- */

int hsq_lock(sqlite3_file *file, int level);
int hsq_unlock(sqlite3_file *file, int level);
int hsq_check_reserved(sqlite3_file *file, int *out);

/* --- shm.c --- */

int hsq_shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **out);
int hsq_shm_lock(sqlite3_file *file, int first, int count, int flags);
void hsq_shm_barrier(sqlite3_file *file);
int hsq_shm_unmap(sqlite3_file *file, int delete_flag);
void hsq_shm_free(struct hsq_shm *shm);

/* --- follow.c --- */

/* A SQLite code. */
int hsq_follow_init(struct hsq_share *s, const struct hsq_params *params);
void hsq_follow_finish(struct hsq_share *s);
/* A transaction begins: go on to a new version, if there is one. s->lock is held. A SQLite code. */
int hsq_follow_locked(struct hsq_share *s);
/* What was read, as SQLite is to see it; s->mount_lock is held. */
void hsq_follow_show(struct hsq_file *f, void *buf, size_t len, uint64_t offset);

/* --- keep.c --- */

struct hsq_kept;
/*
 * What is local of s->mount and is in the version that lies on the server now, by the manifest
 * URL.hither (docs/manifest-format.md). NULL: nothing, or no manifest. Blocks shortly.
 */
struct hsq_kept *hsq_keep(const struct hsq_share *s);
/* Give it to the new version's mount, if that is what the manifest is of. */
void hsq_keep_give(struct hsq_kept *k, struct hither_mount *m);
void hsq_keep_destroy(struct hsq_kept *k); /* NULL is fine */

/* --- guard.c --- */

/* Before the database is changed: nobody else has. A SQLite code. */
int hsq_guard(struct hsq_share *s);
/* The same before each push; with the mount's options. */
struct hither_push_watch hsq_guard_watch(struct hsq_share *s);
/* Before the mount is opened: what an earlier process left unsent is of the version that it knew.
 */
void hsq_guard_recall(struct hsq_share *s);
/* It is open. If nothing was left unsent, it is of what is there now. */
void hsq_guard_opened(struct hsq_share *s);

#endif
