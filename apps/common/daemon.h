/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount's life, in the process that serves it.
 *
 *     main thread     open, attach, publish -> hither_fuse_serve() ........ -> push the rest, close
 *     control thread  signals, the control socket, progress; never waits for anything but poll()
 *     ender           on a signal or an umount request: write pages back, push, unmount; so serve
 * ends (ender.h). Started before anything is mounted: unmounting must not fail for want of a thread
 */
#ifndef HITHER_APP_DAEMON_H
#define HITHER_APP_DAEMON_H

#include "json.h"
#include "mountpoint.h"
#include "progress.h"
#include "puller.h"
#include "runtime.h"
#include "settings.h"

#include <hither/fuse.h>
#include <hither/mount.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/signalfd.h>

enum daemon_state {
	DAEMON_OPENING,
	DAEMON_ATTACHING,
	DAEMON_MOUNTED,
	DAEMON_UNMOUNTING, /* the ender runs */
	DAEMON_CLOSING,    /* not mounted any more; the rest is pushed */
	DAEMON_ENDED,
};

struct control;
struct daemon;

/* What a program does with its mount while it is there. On the main thread, with no lock held. */
struct daemon_hooks {
	/* The file is in its place, and is answered once this returns. Else it is unmounted. */
	int (*mounted)(struct daemon *d, struct hither_error *err);
	/* Nobody uses it any more; the mount itself is still open. Not 0: the program failed, and
	 * has said so. Called whatever mounted() returned. */
	int (*unmounted)(struct daemon *d);
	/*
	 * SIGINT, SIGTERM or SIGHUP came. True: it is dealt with; false: as without the hook, the
	 * mount ends. On the control thread; must not block. NULL: none.
	 */
	bool (*signalled)(struct daemon *d, const struct signalfd_siginfo *info);
};

struct daemon {
	struct settings *settings;
	struct mountpoint at;
	/* A manifest tells only once it is here whether a file or a folder is shown: then at is
	 * but this path until it has been opened. NULL: at is resolved. */
	const char *late;
	/* late is mountpoint_scratch()'s: a file is shown in it, too, and it goes with the mount.
	 */
	bool scratch;
	struct runtime_entry entry;
	struct control *control;
	char *shown_url;
	int report_fd; /* to the waiting parent; -1 in the foreground */
	int64_t started_at;
	bool on_disk;                     /* what is dirty survives us */
	const struct daemon_hooks *hooks; /* NULL: none */
	void *hooks_user;
	/* The terminal is somebody else's: not a word about the start, and no progress unless
	 * daemon_show_progress() says so. */
	bool quiet;
	_Atomic bool shows; /* it does */
	bool hook_failed;
	int never;                /* -errno: it never came to be mounted; 0: it did */
	bool executable;          /* a file that is shown is a program */
	uint32_t readahead_bytes; /* the kernel's; 0: by the link */
	struct hither_fuse *fuse;

	/* The latest failure of an access that was logged, and when: an outage fails thousands
	 * alike. With a lock of its own, as accesses fail while `lock` is held to cancel them. */
	pthread_mutex_t failure_lock;
	char failure[sizeof((struct hither_error *)NULL)->message];
	uint64_t failure_at;

	/* Guards all below. Not held while anything waits. */
	pthread_mutex_t lock;
	enum daemon_state state;
	struct hither_mount *mount; /* NULL before and after */
	pthread_cond_t changed;     /* state, for the ender */
	bool has_ender;
	pthread_t ender;
	struct puller puller;       /* of `pulls`, as long as mount is there */
	struct hither_mount *pulls; /* mount, for the puller, until it has been stopped */
	bool in_use;                /* it shall end, and waits for those who use it */
	bool lazy;                  /* unmount even if in use */
	bool signal; /* asked by a signal: end even if the push fails, as long as nothing is lost */
	bool forced; /* no more pushing */
};

/* Run from start to end; the exit code. at is resolved already. */
int daemon_run(struct daemon *d);

/* Begin to end. Again: adds its wishes to the one under way. Any thread. */
void daemon_end(struct daemon *d, bool lazy, bool force, bool signal);
/* Stats of now; false: there is no mount (any more). */
bool daemon_stats(struct daemon *d, struct hither_mount_stats *out);
/* Of a quiet one: begin or end to show progress on the terminal, in one line. Ended, the line is
 * gone when this returns. Any thread. */
void daemon_show_progress(struct daemon *d, bool on);
/* To the log, or to stderr in the foreground. */
void daemon_log(struct daemon *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
