/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all layers share: the backend they wrap, waits that a cancel ends, and calls that pass
 * straight through. A layer's struct begins with struct hither_layer; its table takes the entries
 * that it does not change from here.
 */
#ifndef HITHER_LAYER_LAYER_H
#define HITHER_LAYER_LAYER_H

#include <hither/backend.h>
#include <pthread.h>

struct hither_layer {
	struct hither_backend base;
	struct hither_backend *inner;
	pthread_mutex_t lock; /* guards the rest, and what the layer keeps */
	pthread_cond_t woken; /* cancelled */
	bool cancelled;
};

/* b must belong to a layer. */
struct hither_layer *hither_layer_of(struct hither_backend *b);

/* Take size, flags and limits over from inner, which the layer owns on success. 0 or -errno. */
int hither_layer_init(struct hither_layer *l, const struct hither_backend_ops *ops,
                      struct hither_backend *inner, struct hither_error *err);
/* What came with opening inner is not what this layer gives: forget it. */
void hither_layer_changes(struct hither_layer *l);
/* Close inner. The layer's memory is the caller's. */
void hither_layer_finish(struct hither_layer *l);

/* 0 while not cancelled, else -ECANCELED with a message. Layers ask at the start of each call. */
int hither_layer_check(struct hither_layer *l, struct hither_error *err);
/* Wait until hither_now_ns() is `until_ns`: 0; or until cancelled: -ECANCELED. */
int hither_layer_wait_until(struct hither_layer *l, uint64_t until_ns, struct hither_error *err);

/* Entries for a table: check, then the inner backend's. close also frees the layer. */
int hither_layer_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                      struct hither_sink *sink, struct hither_error *err);
int hither_layer_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                          struct hither_error *err);
int hither_layer_flush(struct hither_backend *b, struct hither_error *err);
int hither_layer_version(struct hither_backend *b, char *version, size_t size,
                         struct hither_error *err);
void hither_layer_cancel(struct hither_backend *b);
void hither_layer_close(struct hither_backend *b);

#endif
