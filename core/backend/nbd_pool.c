/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/nbd_pool.h"
#include "base/cleanup.h"

enum {
	SPARE_MAX = 32,
	DATA_ALIGN = 4096, /* lets the kernel copy whole pages */
};

void hither_nbd_pool_init(struct nbd_pool *pool, size_t piece_bytes)
{
	*pool = (struct nbd_pool){.piece_bytes = piece_bytes};
	pthread_mutex_init(&pool->lock, NULL);
}

static void piece_free(struct nbd_piece *piece)
{
	free(piece->request.data);
	free(piece);
}

void hither_nbd_pool_finish(struct nbd_pool *pool)
{
	while (pool->spare) {
		struct nbd_piece *piece = pool->spare;
		pool->spare = piece->next;
		piece_free(piece);
	}
	pthread_mutex_destroy(&pool->lock);
}

static struct nbd_piece *piece_new(struct nbd_pool *pool)
{
	HITHER_FREE struct nbd_piece *piece = calloc(1, sizeof *piece);
	if (!piece)
		return NULL;
	piece->pool = pool;
	if (posix_memalign(&piece->request.data, DATA_ALIGN, pool->piece_bytes))
		return NULL;
	return HITHER_TAKE(piece, NULL);
}

struct nbd_piece *hither_nbd_pool_get(struct nbd_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	struct nbd_piece *piece = pool->spare;
	if (piece) {
		pool->spare = piece->next;
		pool->spare_count--;
	}
	pthread_mutex_unlock(&pool->lock);
	return piece ? piece : piece_new(pool);
}

void hither_nbd_pool_put(struct nbd_piece *piece)
{
	struct nbd_pool *pool = piece->pool;
	pthread_mutex_lock(&pool->lock);
	bool keep = pool->spare_count < SPARE_MAX;
	if (keep) {
		piece->next = pool->spare;
		pool->spare = piece;
		pool->spare_count++;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!keep)
		piece_free(piece);
}
