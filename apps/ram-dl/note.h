/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process under `ram-dl run` tells `ram-dl status`: a file named like its pid, in the run's
 * folder, mapped by both. Counters only; a reader may see some newer than others.
 */
#ifndef RAM_DL_RUN_NOTE_H
#define RAM_DL_RUN_NOTE_H

#include <stdint.h>

#define NOTE_MAGIC UINT64_C(0x31657a6f6e6c6472)

struct note {
	uint64_t magic; /* written last */
	char command[64];
	char tracking[16]; /* how written pages are found */
	uint64_t taken_bytes, limit_bytes, resident_bytes, dirty_bytes;
	uint64_t in_bytes, out_bytes, discarded_bytes;
	uint64_t faults, waits, wait_p50_ns, wait_p99_ns;
	uint64_t rtt_ns;
	uint64_t kernel_faults;
	int64_t error;
	char message[384];
};

#endif
