/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests: a server in a process of its own, so that a test that faults or is killed while it
 * uses the mount cannot hang the server, and the server can be killed. The backend's bytes are
 * shared with the test, and it can be told to let reads wait, or fail.
 */
#ifndef HITHER_FRONTEND_FUSE_FIXTURE_H
#define HITHER_FRONTEND_FUSE_FIXTURE_H

#include "check.h"

#include <hither/fuse.h>
#include <limits.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/types.h>

/* Shared by test and server. */
struct control {
	uint8_t *bytes; /* of file 0's backend */
	uint64_t size;
	atomic_uint_least64_t gate_from, gate_to; /* reads of these bytes wait for `opened` */
	sem_t entered;                            /* posted by each read that comes to the gate */
	sem_t opened;
	atomic_int fail; /* -errno for every read */
	atomic_bool cancelled;
	atomic_int told; /* failures that the frontend has told of */
};

struct setup {
	uint64_t size;
	size_t folder_files; /* 0: mounted on a file; else in a folder, "file-0" ..., all the same
	                        backend bytes */
	bool writable, direct, no_passthrough;
	uint32_t deadline_ms;
	int64_t modified_ns; /* the backend's */
	uint32_t space_mib; /* once it is mounted, so much more address space and no more; 0: any */
	uid_t uid;          /* serve as this user, if not 0 */
};

struct server {
	char path[PATH_MAX]; /* mount point */
	char file[PATH_MAX]; /* file 0 */
	struct control *control;
	pid_t pid;
	int command, reply;
};

/* Commands, for server_ask(). */
enum {
	ASK_STOP = 's', /* hither_fuse_stop */
	ASK_STOP_LAZY = 'z',
	ASK_PULL = 'p',   /* make all of file 0 local */
	ASK_READS = 'r',  /* how many reads file 0's mount has seen */
	ASK_STORE = 'c',  /* put all of file 0 into the page cache */
	ASK_CANCEL = 'x', /* hither_mount_cancel on all */
};

/* Make path if need be, and mount there. The server's failure to attach is returned, with its words
 * in err. */
int server_try(struct server *s, const char *name, const struct setup *setup,
               struct hither_error *err);
/* The same; a failure fails the test. */
void server_start(struct server *s, const char *name, const struct setup *setup);
int server_ask(struct server *s, int command);
void server_send(struct server *s, int command); /* without waiting ... */
int server_answer(struct server *s);             /* ... until here */
/* Wait for the end of serve(), after a stop; its result. */
int server_join(struct server *s);
/* Stop, which must work, and join. */
void server_stop(struct server *s);

void gate_close(struct control *c, uint64_t from, uint64_t to);
void gate_open(struct control *c);
void wait_entered(struct control *c); /* until a read stands at the gate; 5 s */

/* What a backend has at first. */
uint8_t pattern(uint64_t offset);
void check_pattern(const void *buf, size_t len, uint64_t offset);

/* Run tests() in a process of its own and a fresh folder; take away what it leaves mounted. main's
 * result. */
int run_in_scratch(void (*tests)(void));
extern char scratch[64];

#endif
