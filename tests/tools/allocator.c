/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded behind ram-dl's: as of a program with an allocator of its own, which knows of no
 * memory. */
#include <stddef.h>
#include <stdlib.h>

size_t malloc_usable_size(void *p);
size_t malloc_usable_size(void *p)
{
	abort();
}
