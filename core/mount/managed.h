/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The managed mount, inside.
 *
 * It is a passive machine: submit() answers what is local and parks the rest; claim() gives the
 * most urgent job; the holder of a job runs it (managed_run) with no lock held and settles it.
 * Threads (worker.c) do nothing but claim and run, so a test can do the same by hand, in any order
 * it likes and in virtual time.
 *
 *     read.c   parked reads, and answering them       write.c  writes; discard.c
 *     pull.c   bytes coming in                        push.c   dirty bytes going out, flush
 *     guess.c  what to pull when nobody waits         evict.c  the cap on the store
 *     left.c   what goes first under a limit
 *     batch.c  several small guesses in one request  warm.c  connections before they are needed
 *     claim.c  which job is next                      retry.c  outages: backoff and deadlines
 *     memory.c the store as memory that programs change in place
 *     outage.c a line that is silent, and comes back
 *
 * A block's life:
 *     ABSENT --pull--> LOCAL --write--> DIRTY --push--> PUSHED --backend flush--> LOCAL
 *        \--write of the whole block--^    ^----write----/
 *
 * Ranges being changed in the store are `busy`; a commit of pulled bytes leaves them alone, a write
 * waits for them (never long: only local I/O is done under them). Rules 1 to 8 of
 * docs/architecture.md are kept here; each is named where it is kept.
 */
#ifndef HITHER_MOUNT_MANAGED_H
#define HITHER_MOUNT_MANAGED_H

#include "chunk/block_map.h"
#include "chunk/store.h"
#include "mount/link.h"
#include "mount/memory.h"
#include "mount/mount_internal.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
	MANAGED_WORKERS_MAX = 64,
	MANAGED_THREADS_MAX = MANAGED_WORKERS_MAX + 1,
	MANAGED_WORKERS_DEFAULT = 32,
	MANAGED_PUSH_BLOCKS = 256, /* most blocks of one push: 1 MiB */
	MANAGED_PUSHES_MAX = 16,   /* pushes at a time, each with a buffer of that size at most */
	MANAGED_LATER = 64,        /* as many as there may be workers */
	MANAGED_SEEN = 128,        /* accesses not yet told to the order */
	MANAGED_LEFT = 16,         /* places that readers have left behind */
	MANAGED_QUICK_BYTES = 1 << 20,  /* of what is guessed when somebody has to wait */
	MANAGED_JUMP_BYTES = 256 << 10, /* of a read that jumps, in short requests */
};

enum managed_job_kind {
	MANAGED_JOB_NONE,
	MANAGED_JOB_PULL,   /* blocks -> store */
	MANAGED_JOB_DIRECT, /* a parked io by itself: the store has no room */
	MANAGED_JOB_PUSH,   /* dirty blocks -> backend */
	MANAGED_JOB_FLUSH,  /* backend flush, then PUSHED blocks are LOCAL */
	MANAGED_JOB_SYNC,   /* make the store durable */
	MANAGED_JOB_EVICT,
	MANAGED_JOB_WARM, /* open a connection */
};

/* A list of ios; first in, first out. */
struct managed_ios {
	struct hither_io *head, **tail;
};

/* Something under way. Filled by claim, owned by its holder until settled. In m->jobs meanwhile. */
struct managed_job {
	struct managed_job *next;
	enum managed_job_kind kind;
	uint64_t first, end;      /* blocks (PULL, PUSH) */
	bool demand;              /* PULL: somebody waits for it */
	uint32_t flight_bytes;    /* PULL: longest part; 0: it goes out as one */
	bool here;                /* PULL: by the one who waits, no worker */
	bool quiet;               /* PULL: watchers are not told of what comes */
	struct managed_job *more; /* PULL: further runs in the same request, on the heap */
	bool follower;            /* PULL: it is such a one */
	bool alone;               /* PULL: it shares its request with no other run */
	bool early; /* PULL: asked for as the backend was opened; says nothing of the line */
	uint64_t start_ns;
	uint64_t first_byte_ns; /* PULL: 0 until the first byte has come */
	uint64_t last_ns;       /* PULL: when bytes last came, or should have begun to */
	bool hedged; /* PULL: it has stalled; who waits for its blocks asks again elsewhere */
	_Atomic bool dropped; /* PULL: nobody wants it any more, the backend may end it */
	uint64_t arrived;     /* PULL: bytes */
	uint64_t held;        /* PULL: bytes that have come, and are held by the backend */
	bool through;         /* PUSH: durable by itself */
	uint64_t start_seq;   /* PUSH: m->write_seq when it began */
	bool rewritten;       /* PUSH: some block was written meanwhile */
	uint8_t redirtied[MANAGED_PUSH_BLOCKS / 8]; /* PUSH: which (rule 5) */
	struct managed_ios ios;                     /* DIRECT: one; SYNC: all that wait for it */
};

/* Blocks whose bytes in the store are being changed right now. */
struct managed_busy {
	struct managed_busy *next;
	uint64_t first, end;
	bool leaves; /* by an eviction, which is soon over and waits for nobody */
};

/* Blocks that a reader has left behind. */
struct managed_left {
	uint64_t first, end;
};

/* An access that the order has not been told of. */
struct managed_seen {
	uint64_t offset, len;
	bool waited;
};

/* One pass over the dirty blocks, then a backend flush. */
enum managed_round_state { ROUND_NONE, ROUND_SWEEP, ROUND_FLUSH };

struct managed {
	struct hither_mount base;
	/* fixed after create */
	char *name;
	struct hither_store *store;
	enum hither_sync sync;
	enum hither_changed changed;
	bool pull_off;
	bool laid_out;        /* the order has all that the backend stores: the rest are holes */
	bool versioned;       /* the backend tells versions: our pushes change it */
	uint32_t jobs_max;    /* requests in flight */
	uint32_t pushes_max;  /* of these; 1 where the order of pushes is that of the medium */
	uint32_t unit_blocks; /* what the backend must move at once, at least */
	uint32_t chunk_blocks;
	uint64_t cap_blocks;      /* 0: none */
	uint64_t resident_blocks; /* most blocks present, dirty ones included; 0: any */
	uint64_t deadline_ns;
	uint64_t push_interval_ns;
	struct hither_push_watch push_watch; /* before is NULL: none */
	uint64_t push_dirty_blocks;
	uint64_t block_count;
	uint64_t (*now)(void);

	_Atomic bool push_marked; /* the store knows that we push (identity.pushing) */

	/*
	 * Told of every read at once: what waits in `seen` may be dropped, or be there still at the
	 * end. It writes a file, so it has a lock of its own, taken with no other.
	 */
	pthread_mutex_t recorder_lock;
	struct hither_order *recorder; /* NULL: none; fixed */

	/* Guards the order alone. Taken before `lock` where both are. */
	pthread_mutex_t order_lock;
	struct hither_order *order; /* NULL: none; the pointer changes under both locks */
	struct hither_order_view view;

	pthread_mutex_t lock;      /* guards everything below */
	pthread_cond_t work;       /* something to claim */
	pthread_cond_t timer;      /* the timekeeper waits here */
	pthread_cond_t settled;    /* a busy range or a job ended */
	pthread_mutex_t room_lock; /* writes that found the disk full; before `lock` */
	struct hither_block_map *map;
	struct managed_busy *busy;
	struct managed_job *jobs;
	uint32_t job_count; /* all kinds that use the backend */
	uint32_t pushing;
	struct managed_ios waiting; /* parked reads and writes */
	struct hither_link link;
	uint64_t outstanding_bytes; /* asked for by pulls, not yet arrived */
	uint64_t heard_ns;          /* when anything last came, or was first asked for */
	uint64_t cold_bytes;        /* pulled before connections rested last: batch.c */
	uint64_t split_first,
	        split_end; /* a demand for these failed as a whole: ask block by block */

	/* guesses */
	struct hither_range guess; /* what is left of the order's latest */
	uint64_t guess_quick;      /* so many bytes of it are likely to be waited for soon */
	uint64_t hurry_bytes;      /* so many of the next are waited for: view.hurry */
	/* Others that threads got which asked at the same time; an order says each thing once. */
	struct hither_range later[MANAGED_LATER];
	uint32_t later_count;
	bool order_holds;   /* it wants the line for what it gave last */
	bool order_listens; /* it wants to know what arrives (fixed) */
	bool order_late;    /* somebody waits of whom it has not heard */
	bool order_idle;    /* it had nothing; something must happen before it is asked again */
	uint32_t order_thinking; /* threads that ask it just now */
	bool order_turned_away;  /* others did not sweep meanwhile, and shall be woken */
	struct managed_seen seen[MANAGED_SEEN];
	uint64_t seen_head, seen_tail;
	uint64_t sweep;          /* block where the front-to-back pull goes on */
	uint64_t sweep_progress; /* pulled bytes when it last began at 0 */
	uint64_t sweep_again_ns; /* after a fruitless pass: not before this */
	uint32_t pull_waiters;   /* hither_mount_pull callers: sweep even if pull_off */

	/* connections */
	uint32_t connections;    /* that are open, as far as can be told from here */
	uint32_t warm_wanted;    /* so many should be */
	uint64_t warm_looked_ns; /* when it was last seen to that they are */

	/* pushes */
	struct hither_link up;   /* the way out, measured by itself */
	uint64_t pushing_bytes;  /* under way */
	uint64_t write_seq;      /* writes done */
	uint64_t dirty_since_ns; /* 0: nothing dirty */
	uint64_t push_again_ns;  /* a round has failed: not before this, unless a flush asks */
	enum managed_round_state round;
	uint64_t round_cursor;        /* block */
	uint64_t round_blocks;        /* that it has pushed */
	uint64_t push_hand;           /* block; where a round that nobody waits for begins */
	uint64_t round_seq;           /* writes up to this one count */
	bool round_failed;            /* a push of it failed for good: no flush, try again later */
	struct managed_ios round_ios; /* flushes that end with this round */
	struct managed_ios flush_ios; /* and those that came later */
	struct managed_ios sync_ios;  /* flushes to the local store */

	/* trouble */
	uint64_t retry_at_ns; /* a transient failure: nothing is claimed before this; 0: none */
	uint32_t failures;    /* in a row */
	uint64_t progress_ns; /* last time the backend did something for us */
	struct hither_error trouble; /* the latest failure, code 0 after a success */
	struct hither_error gave_up; /* what the latest expired io was told, 0 after a success */
	int stale;                   /* -ESTALE: the resource has changed; for ever */
	_Atomic bool cancelled;      /* read without the lock by whoever is delivering */
	bool closing;
	uint64_t full_until_ns; /* the store has no room: pull past it until then */
	bool evicting;
	bool evict_stuck;    /* nothing could go; some job must end before it is tried again */
	uint64_t evict_hand; /* chunk */
	struct managed_left left[MANAGED_LEFT]; /* the oldest first: left.c */
	unsigned left_count;
	uint64_t left_blocks;
	uint64_t evict_random;
	uint8_t *used; /* [chunks / 8] referenced since the hand passed; NULL without cap */
	_Atomic uint64_t evictions; /* changes when blocks leave the store */

	/* who maps the store */
	pthread_rwlock_t watch_lock; /* guards the list; held for reading while hooks run */
	struct mount_memory_watch *watches;
	_Atomic bool watched; /* there are some */
	bool lent;            /* bytes are sent from where they are: nothing may leave */

	/* threads */
	pthread_t threads[MANAGED_THREADS_MAX];
	uint32_t thread_count, idle_count;
	bool timekeeper;   /* some idle thread keeps the time */
	uint64_t timer_ns; /* until when it sleeps; 0: until signalled */
	bool manual;       /* a test claims and runs jobs itself */

	struct hither_mount_stats stats; /* counters; the rest is filled in by managed_stats */
};

static inline struct managed *managed_of(struct hither_mount *m)
{
	return (struct managed *)m;
}

/* Half-open overlap. */
static inline bool managed_overlap(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
	return a < b_end && b < a_end;
}
static inline uint64_t managed_first(const struct hither_io *io)
{
	return io->offset >> HITHER_BLOCK_SHIFT;
}
static inline uint64_t managed_end(const struct hither_io *io)
{
	return ((io->offset + io->len - 1) >> HITHER_BLOCK_SHIFT) + 1;
}
/* Bytes from the start of block `first` to the end of block `end - 1`, clipped to the resource. */
uint64_t managed_bytes(const struct managed *m, uint64_t first, uint64_t end);

/* managed.c */
void managed_ios_init(struct managed_ios *list);
void managed_ios_append(struct managed_ios *list, struct hither_io *io);
/* Unlink the io that *at points to. */
void managed_ios_remove(struct managed_ios *list, struct hither_io **at);
/* End an io; no lock held. err may be NULL when result is 0. */
void managed_answer(struct hither_io *io, int result, const struct hither_error *err);
/* End all ios of a list with one result; no lock held. */
void managed_answer_all(struct managed_ios *list, int result, const struct hither_error *err);
struct managed_busy *managed_busy_find_locked(struct managed *m, uint64_t first, uint64_t end);
void managed_busy_add_locked(struct managed *m, struct managed_busy *b);
void managed_busy_remove_locked(struct managed *m, struct managed_busy *b);
extern const struct hither_mount_ops managed_ops;

/* read.c */
void managed_read(struct managed *m, struct hither_io *io);
/* Move waiting ios whose blocks are all here, among those touching [first, end), to *ready. */
void managed_collect_ready_locked(struct managed *m, uint64_t first, uint64_t end,
                                  struct managed_ios *ready);
/* Go on with ios that were collected; no lock held. */
void managed_resume(struct managed *m, struct managed_ios *ready);
/* Does io lack blocks from block `from` on? The first run of them in *first, *end. */
bool managed_io_missing_locked(const struct managed *m, const struct hither_io *io, uint64_t from,
                               uint64_t *first, uint64_t *end);
void managed_park_locked(struct managed *m, struct hither_io *io);

/* write.c */
void managed_write(struct managed *m, struct hither_io *io);
/* A write that waits for the rest of its blocks, which found the disk full. */
void managed_write_full(struct managed *m, struct hither_io *io);
/* What is present of these was changed where it is. -ENOMEM: some are not noted. */
int managed_changed_in_place_locked(struct managed *m, uint64_t first, uint64_t end);
/* What is here of these is dirty before its bytes change. -ENOMEM: nothing has happened. */
int managed_dirty_present_locked(struct managed *m, uint64_t first, uint64_t end);
/*
 * The store's bytes of busy's blocks were changed, or result (-errno) tells why not: they are
 * dirty, which after a failure those stay that were made so for it, and busy no more. *ready: whom
 * that lets go on. result, or why they could not be noted.
 */
int managed_end_change_locked(struct managed *m, struct managed_busy *busy, int result,
                              struct managed_ios *ready);

/* left.c */
/* The order tells of what was left behind. Without a limit on memory nobody wants to know. */
void managed_left_locked(struct managed *m, struct hither_range range);
/* Chunks of that which may go, in one piece, `want` blocks or a chunk more at most; false: none. */
bool managed_take_left_locked(struct managed *m, uint64_t want, uint64_t *first, uint64_t *end);

/* outage.c */
/* What the line has to bring; on a narrow one without what seems to be lost. */
uint64_t managed_under_way_locked(const struct managed *m);
/* Has a narrow line that should bring something all the time brought nothing lately? */
bool managed_quiet_locked(const struct managed *m);
/* Does nothing come though much is under way? */
bool managed_silent_locked(const struct managed *m);
/* When to look next whether the line is back; 0: once something else has happened. */
uint64_t managed_probe_at_locked(const struct managed *m);
bool managed_claim_probe_locked(struct managed *m, struct managed_job *job);
/* Something has come. True: reads were dropped, so hither_backend_drop(), with no lock held. */
bool managed_heard_locked(struct managed *m);

/* pull.c */
struct managed_sink {
	struct hither_sink sink;
	struct managed *m;
	struct managed_job *job;
	uint64_t offset; /* of the next byte to come, less what is in tail */
	size_t tail_len;
	int store_error;
	void (*asked)(void *user); /* NULL: nothing, or told already */
	void *user;
	unsigned char tail[HITHER_BLOCK_BYTES]; /* a block that has come in part */
};
void managed_sink_init(struct managed_sink *s, struct managed *m, struct managed_job *job);
/* Settle s->job: r and err are what the backend said. */
void managed_sink_settle(struct managed_sink *s, int r, struct hither_error *err);
bool managed_claim_demand_locked(struct managed *m, struct managed_job *job);
void managed_run_pull(struct managed *m, struct managed_job *job);
/* Meanwhile asked(user) is called, once: when the request has gone out where that can be told, else
 * before. */
void managed_run_pull_asked(struct managed *m, struct managed_job *job, void (*asked)(void *user),
                            void *user);
/* Put into the store what opening the backend brought along. */
void managed_take_head(struct managed *m);
void managed_run_direct(struct managed *m, struct managed_job *job);
/* In pieces, for tests that play the backend: bytes of the job, whole blocks but at the resource's
 * end. */
int managed_commit(struct managed *m, struct managed_job *job, const void *buf, size_t len,
                   uint64_t offset);
int managed_fill_known(struct hither_mount *base, const void *buf, size_t len, uint64_t offset,
                       struct hither_error *err);
void managed_settle_pull(struct managed *m, struct managed_job *job, int result,
                         const struct hither_error *err);
/* Make a run of blocks longer, to what the backend gives as a whole in any case. */
void managed_whole(const struct managed *m, uint64_t *first, uint64_t *end);
/* Does io begin where nothing is here or on its way? */
bool managed_jumped_locked(const struct managed *m, const struct hither_io *io);
/* Shorten [*first, *end) to its first part that is absent and not on its way. */
bool managed_trim_locked(const struct managed *m, uint64_t *first, uint64_t *end);
void managed_start_job_locked(struct managed *m, struct managed_job *job,
                              enum managed_job_kind kind);
void managed_end_job_locked(struct managed *m, struct managed_job *job);

/* guess.c */
int managed_make_order(struct managed *m, const struct hither_mount_options *options,
                       struct hither_error *err);
/* What the backend asked for as it was opened is guessed before all else. */
void managed_take_early(struct managed *m);
/* A guess that an outage cut short is made again; an order says each thing once. */
void managed_guess_again_locked(struct managed *m, const struct managed_job *job);
/* What is left of it is guessed before anything else. */
void managed_guess_first_locked(struct managed *m, const struct managed_job *job);
int managed_peek(struct hither_mount *base, void *buf, size_t len, uint64_t offset);
/* An order that says so goes before the one that is there. */
int managed_suggest(struct hither_mount *base, const struct hither_range *ranges, size_t count,
                    struct hither_error *err);
/* Requests that nobody waits for, at most: some places stay free, so that a demand never queues
 * behind guesses for a worker. */
uint32_t managed_guess_places(const struct managed *m);
/* The same of what a reader that has jumped will soon wait for: one place stays free. */
uint32_t managed_jump_places(const struct managed *m);
/* Bytes of a request that somebody waits for, or soon will: short ones over many connections while
 * the line has room; once it is full they would only be more requests. */
uint64_t managed_quick_extent_locked(const struct managed *m);
/* Bytes that may be under way where a reader has jumped to. */
uint64_t managed_jump_window_locked(const struct managed *m);
/* The same at a place where nothing was asked for yet: what comes in one round trip. */
uint64_t managed_jump_extent_locked(const struct managed *m);
/* What comes in one round trip over the connection that the next request gets. */
uint64_t managed_flight_locked(const struct managed *m);
bool managed_guess_wanted_locked(const struct managed *m);
/* The window was full, and has room again: somebody shall look for a guess. No lock held. */
void managed_room_opened(struct managed *m);
/* May let go of the lock and take it again. */
bool managed_claim_guess_locked(struct managed *m, struct managed_job *job);
/* One more guess for a request that has some, if there is one of at most `most` blocks that does
 * not touch these; likewise. */
bool managed_claim_more_locked(struct managed *m, uint64_t most, const struct managed_job *beside,
                               struct managed_job *job);

/* batch.c */
/* Give a guess that was claimed company, where the backend reads several ranges at a time. May let
 * go of the lock and take it again. */
void managed_batch_locked(struct managed *m, struct managed_job *job);
void managed_run_batch(struct managed *m, struct managed_job *job);
void managed_saw_locked(struct managed *m, const struct hither_io *io, bool waited);
/* A read, for the profile that is recorded; no lock held. */
void managed_record(struct managed *m, uint64_t offset, uint64_t len, bool waited);
/* A parked read goes on: note it if it waited long. */
void managed_record_stall(struct managed *m, const struct hither_io *io);
void managed_arrived(struct managed *m, uint64_t offset, uint64_t len); /* no lock held */

/* warm.c */
void managed_warm(struct hither_mount *base, uint32_t connections);
/* A job was started: it has a connection. */
void managed_connected_locked(struct managed *m, const struct managed_job *job);
/* Bytes that a connection has brought: the next request's after `begun` others, or else any on
 * average. */
uint64_t managed_brought_locked(const struct managed *m, uint32_t begun);
bool managed_warm_wanted_locked(const struct managed *m);
bool managed_claim_warm_locked(struct managed *m, struct managed_job *job);
void managed_run_warm(struct managed *m, struct managed_job *job);
/* Now and then, with no lock held: those that the server has closed are opened anew. */
void managed_look_at_connections(struct managed *m);
/* What became of it. */
void managed_settle_warm(struct managed *m, struct managed_job *job, int result);

/* discard.c */
void managed_discard(struct managed *m, struct hither_io *io);

/* push.c */
void managed_flush(struct managed *m, struct hither_io *io, bool remote);
bool managed_claim_push_locked(struct managed *m, struct managed_job *job);
void managed_note_rewrite_locked(struct managed *m, uint64_t first, uint64_t end);
void managed_run_push(struct managed *m, struct managed_job *job);
void managed_run_flush(struct managed *m, struct managed_job *job);
void managed_run_sync(struct managed *m, struct managed_job *job);
void managed_settle_push(struct managed *m, struct managed_job *job, int result,
                         const struct hither_error *err);
void managed_settle_flush(struct managed *m, struct managed_job *job, int result,
                          const struct hither_error *err);
bool managed_dirty_locked(const struct managed *m);
/* When the background wants to push; 0: nothing to do; 1: now. */
uint64_t managed_push_due_locked(const struct managed *m);

/* retry.c */
void managed_trouble_locked(struct managed *m, int result, const struct hither_error *err);
void managed_success_locked(struct managed *m);
/* When a pull counts as stalled if nothing comes before. */
uint64_t managed_stall_ns(const struct managed *m, const struct managed_job *job);
/* May who waits for its blocks ask again elsewhere, once it has stalled? */
bool managed_may_hedge_locked(const struct managed *m, const struct managed_job *job);
/* Collect into *expired waiting ios whose deadline has passed. */
void managed_collect_expired_locked(struct managed *m, struct managed_ios *expired);
uint64_t managed_next_event_locked(const struct managed *m); /* 0: none */
void managed_fail_waiting(struct managed *m, int result, const struct hither_error *err);

/* memory.c */
enum managed_watch {
	MANAGED_WATCH_ARRIVED,
	MANAGED_WATCH_PUSHING,
	MANAGED_WATCH_LEAVING,
	MANAGED_WATCH_COLLECT,
};
/* Does a watcher put these absent blocks into the store? No lock held; they are busy. */
bool managed_fill(struct managed *m, uint64_t first, uint64_t end, const void *bytes);
/* Call a hook of each watcher; no lock held. */
void managed_watchers(struct managed *m, enum managed_watch what, uint64_t first, uint64_t end);

/* evict.c */
/* May [first, end) go? Only if it has clean blocks, and nobody is at them. */
bool managed_droppable_locked(struct managed *m, uint64_t first, uint64_t end);
/* So many blocks may be pulled under the resident limit; 0: none until evictions have made room. */
uint64_t managed_room_locked(const struct managed *m);
/* There is no room, and nothing under way makes any. */
bool managed_stuck_locked(const struct managed *m);
/* So full that only what is wanted may come. */
bool managed_filling_locked(const struct managed *m);
int managed_evict_init(struct managed *m, struct hither_error *err);
bool managed_evict_wanted_locked(const struct managed *m);
bool managed_claim_evict_locked(struct managed *m, struct managed_job *job);
void managed_run_evict(struct managed *m, struct managed_job *job);
void managed_used_locked(struct managed *m, uint64_t first, uint64_t end);
/* Make room for at least `blocks`; no lock held. True if anything was freed. */
bool managed_make_room(struct managed *m, uint64_t blocks);
/* The disk is full: for a while nothing is pulled that nobody waits for. */
void managed_store_full_locked(struct managed *m);

/* claim.c */
bool managed_claim_locked(struct managed *m, struct managed_job *job);
void managed_run(struct managed *m, struct managed_job *job);

/* worker.c */
/* For tests: mounts created now start no threads, not for a moment. */
extern bool managed_by_hand;
int managed_threads_start(struct managed *m, struct hither_error *err);
/* Is anything claimable, as far as can be told quickly? */
bool managed_work_locked(const struct managed *m);
/* Something may be claimable: see that a thread looks. */
void managed_wake_locked(struct managed *m);
void managed_threads_stop(struct managed *m);

#endif
