/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping a process that serves paging from needing paging itself. */
#ifndef HITHER_APP_RAM_DL_STEADY_H
#define HITHER_APP_RAM_DL_STEADY_H

#include <hither/error.h>
#include <stddef.h>

/*
 * Lock all memory of this process, present and future, with reserve_bytes more of heap that are
 * touched now, so that later allocations find them instead of asking the kernel. From here on this
 * thread, and those that it starts, and those that they start, never wait for paging when the
 * kernel does allocate for them (a socket's buffers, a stack): they would wait for themselves. Call
 * before threads start. -EPERM, -ENOMEM: RLIMIT_MEMLOCK, see err.
 */
int steady_lock(size_t reserve_bytes, struct hither_error *err);
/* After steady_lock(), on its thread: keep the OOM killer off. What of all this could not be had is
 * written to missing (size bytes): "" if all could. */
void steady_protect(char *missing, size_t size);
/* This thread is on no paging path, and may wait for it again: swapoff(2) needs memory. */
void steady_stand_aside(void);

#endif
