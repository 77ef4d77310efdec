/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping a process that serves paging from needing paging itself. */
#ifndef HITHER_APP_RAM_DL_STEADY_H
#define HITHER_APP_RAM_DL_STEADY_H

#include <hither/error.h>
#include <stddef.h>

/*
 * Lock all memory of this process, present and future, with reserve_bytes more of heap that are
 * touched now, so that later allocations find them instead of asking the kernel. Call before
 * threads start: they allocate from that heap, too. -EPERM, -ENOMEM: RLIMIT_MEMLOCK, see err.
 */
int steady_lock(size_t reserve_bytes, struct hither_error *err);
/* Keep the OOM killer off, and keep our own allocations from waiting for paging. What could not be
 * had is written to missing (size bytes): "" if all could. */
void steady_protect(char *missing, size_t size);

#endif
