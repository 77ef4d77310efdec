/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HITHER_APP_RAM_DL_MEMINFO_H
#define HITHER_APP_RAM_DL_MEMINFO_H

#include <stdint.h>

/* Bytes of a line of /proc/meminfo, as "MemAvailable"; 0: there is none. */
uint64_t meminfo_bytes(const char *name);

#endif
