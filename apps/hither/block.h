/* SPDX-License-Identifier: Apache-2.0 */
/* What `hither block` does with devices that are there. Each: the exit code. */
#ifndef HITHER_APP_BLOCK_H
#define HITHER_APP_BLOCK_H

int block_list(void);
int block_cleanup(void);
int block_detach(const char *device);

#endif
