/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers for the pieces of NBD reads, each with the request that fills it. Used again last in,
 * first out: what is warm in the cache, and no page faults for fresh memory at each read.
 */
#ifndef HITHER_BACKEND_NBD_POOL_H
#define HITHER_BACKEND_NBD_POOL_H

#include "backend/nbd_conn.h"

struct nbd_piece {
	struct nbd_request request; /* data points to the buffer */
	struct nbd_pool *pool;
	struct nbd_piece *next;
};

struct nbd_pool {
	size_t piece_bytes;
	pthread_mutex_t
	        lock; /* guards the rest; taken with a connection's lock held, never around one */
	struct nbd_piece *spare;
	unsigned spare_count;
};

void hither_nbd_pool_init(struct nbd_pool *pool, size_t piece_bytes);
/* Every piece has been put back. */
void hither_nbd_pool_finish(struct nbd_pool *pool);
/* NULL: no memory. */
struct nbd_piece *hither_nbd_pool_get(struct nbd_pool *pool);
void hither_nbd_pool_put(struct nbd_piece *piece);

#endif
