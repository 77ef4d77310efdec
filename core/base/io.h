/* SPDX-License-Identifier: Apache-2.0 */
/* pread and pwrite that finish what they began. */
#ifndef HITHER_BASE_IO_H
#define HITHER_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All len bytes, or -errno; -EIO where the file ends before them. Retries EINTR. */
int hither_pread_all(int fd, void *buf, size_t len, uint64_t offset);
int hither_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset);
int hither_write_all(int fd, const void *buf, size_t len);

/* Make every missing folder of path, like mkdir -p, mode 0700. 0 or -errno. */
int hither_mkdir_all(const char *path);

/* May this process open so few files that connections, which take three each, must be few? */
bool hither_has_few_files(void);

#endif
