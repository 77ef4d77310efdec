/* SPDX-License-Identifier: Apache-2.0 */
#include "meminfo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint64_t meminfo_bytes(const char *name)
{
	char line[128];
	uint64_t kib = 0;
	size_t len = strlen(name);
	FILE *file = fopen("/proc/meminfo", "re");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, name, len) && line[len] == ':' &&
		    sscanf(line + len + 1, "%" SCNu64, &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib << 10;
}
