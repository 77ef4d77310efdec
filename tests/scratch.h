/* SPDX-License-Identifier: Apache-2.0 */
/* A folder for one test, in TMPDIR, else in memory, else in /tmp. */
#ifndef HITHER_TESTS_SCRATCH_H
#define HITHER_TESTS_SCRATCH_H

#include "check.h"

#include <ftw.h>
#include <limits.h>
#include <unistd.h>

static inline void scratch_make(char path[PATH_MAX])
{
	const char *parent = getenv("TMPDIR");
	if (!parent || !*parent)
		parent = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	snprintf(path, PATH_MAX, "%s/hither-test-XXXXXX", parent);
	CHECK(mkdtemp(path));
}

static inline int scratch_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *where)
{
	return remove(path);
}

static inline void scratch_remove(const char *path)
{
	CHECK_EQ(nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0);
}

#endif
