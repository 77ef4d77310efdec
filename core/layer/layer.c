/* SPDX-License-Identifier: Apache-2.0 */
#include "layer/layer.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct hither_layer *hither_layer_of(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct hither_layer, base);
}

/* Waits are measured on the monotonic clock: nobody's time setting makes them longer. */
static int init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);
	if (r)
		return -r;
	r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!r)
		r = pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return -r;
}

int hither_layer_init(struct hither_layer *l, const struct hither_backend_ops *ops,
                      struct hither_backend *inner, struct hither_error *err)
{
	l->base = *inner;
	l->base.ops = ops;
	/* Who passes the sink on says so. */
	l->base.flags &= ~(uint32_t)HITHER_BACKEND_TELLS_ASKED;
	l->inner = inner;
	l->cancelled = false;
	int r = init_cond(&l->woken);
	if (!r) {
		r = -pthread_mutex_init(&l->lock, NULL);
		if (r)
			pthread_cond_destroy(&l->woken);
	}
	if (r)
		return hither_fail(err, r, "%s: cannot make a lock: %s", ops->name, strerror(-r));
	return 0;
}

void hither_layer_changes(struct hither_layer *l)
{
	l->base.head_bytes = 0;
	memset(l->base.early, 0, sizeof l->base.early);
}

void hither_layer_finish(struct hither_layer *l)
{
	hither_backend_close(l->inner);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->woken);
}

static int fail_cancelled(struct hither_layer *l, struct hither_error *err)
{
	return hither_fail(err, -ECANCELED, "%s: cancelled", l->base.ops->name);
}

int hither_layer_check(struct hither_layer *l, struct hither_error *err)
{
	HITHER_LOCK_SCOPE(&l->lock);
	return l->cancelled ? fail_cancelled(l, err) : 0;
}

int hither_layer_wait_until(struct hither_layer *l, uint64_t until_ns, struct hither_error *err)
{
	struct timespec until = hither_timespec(until_ns);
	HITHER_LOCK_SCOPE(&l->lock);
	while (!l->cancelled && hither_now_ns() < until_ns)
		pthread_cond_timedwait(&l->woken, &l->lock, &until);
	return l->cancelled ? fail_cancelled(l, err) : 0;
}

int hither_layer_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                      struct hither_sink *sink, struct hither_error *err)
{
	struct hither_layer *l = hither_layer_of(b);
	int r = hither_layer_check(l, err);
	return r ? r : hither_backend_read(l->inner, offset, len, sink, err);
}

int hither_layer_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                          struct hither_error *err)
{
	struct hither_layer *l = hither_layer_of(b);
	int r = hither_layer_check(l, err);
	return r ? r : hither_backend_write_at(l->inner, buf, len, offset, err);
}

int hither_layer_flush(struct hither_backend *b, struct hither_error *err)
{
	struct hither_layer *l = hither_layer_of(b);
	int r = hither_layer_check(l, err);
	return r ? r : hither_backend_flush(l->inner, err);
}

int hither_layer_version(struct hither_backend *b, char *version, size_t size,
                         struct hither_error *err)
{
	struct hither_layer *l = hither_layer_of(b);
	assert(size >= HITHER_VERSION_BYTES); /* hither_backend_version() sees to that */
	int r = hither_layer_check(l, err);
	return r ? r : hither_backend_version(l->inner, version, err);
}

void hither_layer_cancel(struct hither_backend *b)
{
	struct hither_layer *l = hither_layer_of(b);
	pthread_mutex_lock(&l->lock);
	l->cancelled = true;
	pthread_cond_broadcast(&l->woken);
	pthread_mutex_unlock(&l->lock);
	hither_backend_cancel(l->inner);
}

void hither_layer_close(struct hither_backend *b)
{
	struct hither_layer *l = hither_layer_of(b);
	hither_layer_finish(l);
	free(l);
}
