/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAM_DL_RUN_HOOK_H
#define RAM_DL_RUN_HOOK_H

#include "pool.h"

#include <stdbool.h>
#include <stddef.h>

/* What the program calls; all else in here is hidden. */
#define HOOK __attribute__((visibility("default")))

/* Memory of the pool that the kernel must not be given. */
bool hook_must_bounce(const void *p);

/* glibc's own, under names that nobody interposes. */
void *__libc_malloc(size_t size);
void __libc_free(void *p);

#endif
