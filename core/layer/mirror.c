/* SPDX-License-Identifier: Apache-2.0 */
/* Two backends with the same bytes, of which one may die. See <hither/layer.h>. */
#include "base/cleanup.h"
#include "layer/layer.h"

#include <errno.h>
#include <hither/layer.h>
#include <stdatomic.h>

struct mirror {
	struct hither_layer
	        layer; /* first: freed as one. Its inner is sides[0]; its lock guards out[] */
	struct hither_backend *sides[2];
	bool out[2]; /* at most one is */
	_Atomic unsigned
	        first; /* who is asked first: a silent server keeps only one read waiting */
	void (*lost)(void *user, unsigned number, const struct hither_error *why);
	void *user;
};

static struct mirror *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct mirror, layer.base);
}

static bool is_out(struct mirror *m, unsigned number)
{
	HITHER_LOCK_SCOPE(&m->layer.lock);
	return m->out[number];
}

/* False: the other one is out already, so that this one must stay. */
static bool put_out(struct mirror *m, unsigned number, const struct hither_error *why)
{
	pthread_mutex_lock(&m->layer.lock);
	bool fresh = !m->out[number] && !m->out[!number];
	m->out[number] |= fresh;
	bool is = m->out[number];
	pthread_mutex_unlock(&m->layer.lock);
	if (fresh && m->lost)
		m->lost(m->user, number, why);
	return is;
}

/* --- reading --- */

/* Counts what has been delivered: the other side goes on from there. */
struct counting_sink {
	struct hither_sink base;
	struct hither_sink *to;
	uint64_t taken;
	int refused; /* what `to` answered, when it wanted no more */
};

static int take_counted(struct hither_sink *sink, const void *buf, size_t len)
{
	struct counting_sink *c = HITHER_CONTAINER(sink, struct counting_sink, base);
	c->refused = c->to->take(c->to, buf, len);
	c->taken += c->refused ? 0 : len;
	return c->refused;
}

static void asked(struct hither_sink *sink)
{
	struct counting_sink *c = HITHER_CONTAINER(sink, struct counting_sink, base);
	if (c->to->asked)
		c->to->asked(c->to);
}

static int mirror_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_sink *sink, struct hither_error *err)
{
	struct mirror *m = self(b);
	struct counting_sink counting = {.base = {.take = take_counted,
	                                          .asked = asked,
	                                          .first_bytes = sink->first_bytes,
	                                          .flight_bytes = sink->flight_bytes},
	                                 .to = sink};
	int r = hither_layer_check(&m->layer, err);
	if (r)
		return r;
	unsigned first = m->first;
	for (unsigned i = 0; i < 2; i++) {
		unsigned side = first ^ i;
		if (is_out(m, side))
			continue;
		r = hither_backend_read(m->sides[side], offset + counting.taken,
		                        len - counting.taken, &counting.base, err);
		if (!r && i)
			m->first = side; /* from now on */
		if (!r || counting.refused || r == -ECANCELED)
			return r;
	}
	return r;
}

/* --- writing --- */

/* What both sides answered, into one answer. */
static int settle(struct mirror *m, const bool asked[2], const int results[2],
                  const struct hither_error errors[2], struct hither_error *err)
{
	for (unsigned i = 0; i < 2; i++)
		if (asked[i] && asked[!i] && results[i] && !results[!i] &&
		    results[i] != -ECANCELED && put_out(m, i, &errors[i]))
			return 0;
	for (unsigned i = 0; i < 2; i++)
		if (asked[i] && results[i]) {
			if (is_out(m, i)) /* by another thread's write, meanwhile */
				continue;
			if (err)
				*err = errors[i];
			return results[i];
		}
	return 0;
}

static int to_both(struct mirror *m, const void *buf, size_t len, uint64_t offset, bool flush,
                   struct hither_error *err)
{
	struct hither_error errors[2] = {0};
	int results[2] = {0};
	bool asked[2];
	int r = hither_layer_check(&m->layer, err);
	if (r)
		return r;
	for (unsigned i = 0; i < 2; i++) {
		asked[i] = !is_out(m, i);
		if (asked[i])
			results[i] = flush ? hither_backend_flush(m->sides[i], &errors[i])
			                   : hither_backend_write_at(m->sides[i], buf, len, offset,
			                                             &errors[i]);
	}
	return settle(m, asked, results, errors, err);
}

static int mirror_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                           struct hither_error *err)
{
	return to_both(self(b), buf, len, offset, false, err);
}

static int mirror_flush(struct hither_backend *b, struct hither_error *err)
{
	return to_both(self(b), NULL, 0, 0, true, err);
}

/* --- life --- */

static void mirror_cancel(struct hither_backend *b)
{
	hither_layer_cancel(b);
	hither_backend_cancel(self(b)->sides[1]);
}

static void mirror_close(struct hither_backend *b)
{
	struct mirror *m = self(b);
	hither_backend_close(m->sides[1]);
	hither_layer_close(b);
}

static const struct hither_backend_ops mirror_ops = {
        .name = "mirror",
        .read = mirror_read,
        .write_at = mirror_write_at,
        .flush = mirror_flush,
        .cancel = mirror_cancel,
        .close = mirror_close,
};

static uint64_t smaller_limit(uint64_t a, uint64_t b)
{
	return a && (a < b || !b) ? a : b; /* 0: none */
}

int hither_layer_mirror(struct hither_backend *first, struct hither_backend *second,
                        void (*lost)(void *user, unsigned number, const struct hither_error *why),
                        void *user, struct hither_backend **out, struct hither_error *err)
{
	HITHER_FREE struct mirror *m = calloc(1, sizeof *m);
	if (!m)
		return hither_fail(err, -ENOMEM, "mirror: no memory");
	int r = hither_layer_init(&m->layer, &mirror_ops, first, err);
	if (r)
		return r;
	struct hither_backend *base = &m->layer.base;
	if (second->size_bytes < base->size_bytes)
		base->size_bytes = second->size_bytes;
	base->flags = (first->flags & second->flags &
	               (HITHER_BACKEND_WRITABLE | HITHER_BACKEND_TELLS_ASKED)) |
	              ((first->flags | second->flags) & HITHER_BACKEND_ORDERED) |
	              (first->flags & second->flags & HITHER_BACKEND_LOCAL);
	if (second->align_bytes > base->align_bytes)
		base->align_bytes = second->align_bytes;
	base->parallel = (uint32_t)smaller_limit(first->parallel, second->parallel);
	base->max_request_bytes =
	        smaller_limit(first->max_request_bytes, second->max_request_bytes);
	hither_layer_changes(&m->layer);
	m->sides[0] = first;
	m->sides[1] = second;
	m->lost = lost;
	m->user = user;
	*out = &HITHER_TAKE(m, NULL)->layer.base;
	return 0;
}
