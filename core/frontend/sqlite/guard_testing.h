/* SPDX-License-Identifier: Apache-2.0 */
/* For tests, which cannot see sqlite_vfs.h: it is for what SQLite loads. */
#ifndef HITHER_SQLITE_GUARD_TESTING_H
#define HITHER_SQLITE_GUARD_TESTING_H

#include <stdint.h>

/* For how long a look at the backend's header is good: a second. */
extern uint64_t hsq_guard_ns;

#endif
