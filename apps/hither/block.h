/* SPDX-License-Identifier: Apache-2.0 */
/* What `hither block` does with devices that are there. Each: the exit code. */
#ifndef HITHER_APP_BLOCK_H
#define HITHER_APP_BLOCK_H

/* Where a device's process that has ended says what it could not do, to who made it end. */
#define BLOCK_FAILED "/run/hither/block/%d.failed" /* its pid */

int block_list(void);
int block_cleanup(void);
int block_detach(const char *device);

#endif
