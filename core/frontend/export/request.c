/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests into accesses of the mount, and the ends of these into replies. A request of up to
 * EXPORT_PIECE_BYTES is one access and begins at once; a longer one is put on c->work, and goes
 * piece by piece, in turn with the others, so that none holds up those behind it.
 */
#include "base/cleanup.h"
#include "export_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

enum {
	OUTPUT_AHEAD = 512 << 10, /* of long reads, begun before the client has taken it */
	OUTPUT_BATCH = 64 << 10,
	BULK_BYTES = 256 << 10, /* a write from this size on */
	EXPORT_TRIM_BYTES = 4096,
};

static const uint8_t zeros[EXPORT_PIECE_BYTES];

uint32_t export_error_code(int code)
{
	switch (-code) {
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case EOPNOTSUPP:
		return NBD_ENOTSUP;
	case ESHUTDOWN:
	case ECANCELED:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

/* --- ends --- */

static void note_error(struct export_request *r, uint32_t error, const char *message)
{
	if (r->error)
		return;
	r->error = error;
	snprintf(r->message, sizeof r->message, "%.*s", (int)sizeof r->message - 1, message);
}

static void work_remove_locked(struct export_connection *c, struct export_request *r)
{
	for (struct export_request **at = &c->work; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			if (!*at)
				c->work_tail = at;
			return;
		}
}

/* What was not begun yet never will be. */
static void cut_locked(struct export_connection *c, struct export_request *r)
{
	if (r->at == r->len || r->command == NBD_CMD_WRITE)
		return;
	work_remove_locked(c, r);
	r->left -= r->len - r->at;
	r->at = r->len;
}

static bool needs_flush(const struct export_request *r)
{
	return (r->flags & NBD_CMD_FLAG_FUA) && !r->error && !r->flushed &&
	       (r->command == NBD_CMD_WRITE || r->command == NBD_CMD_WRITE_ZEROES ||
	        r->command == NBD_CMD_TRIM);
}

/* p's access has ended. True: p is to be submitted once more, as the flush of its request. */
static bool settle_locked(struct export_piece *p, int result, const struct hither_error *err)
{
	struct export_request *r = p->request;
	struct export_connection *c = r->connection;
	r->pieces--;
	if (p->io.op != HITHER_IO_FLUSH)
		r->left -= p->io.len;
	if (result) {
		note_error(r, export_error_code(result), err->message);
		cut_locked(c, r);
	}
	if (r->structured) {
		bool last = r->left == 0;
		export_reply_read_locked(p, result ? export_error_code(result) : 0, r->message);
		if (last)
			export_request_release_locked(c, r);
	} else if (r->left || r->pieces) {
		export_piece_release_locked(c, p);
	} else if (needs_flush(r)) {
		r->flushed = true;
		r->pieces++;
		p->io.op = HITHER_IO_FLUSH;
		return true;
	} else {
		if (r->command == NBD_CMD_READ)
			p->data_len = p->io.len;
		export_reply_end_locked(p, r);
	}
	return false;
}

static void piece_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct export_piece *p = HITHER_CONTAINER(io, struct export_piece, io);
	struct export_connection *c = p->request->connection;
	struct hither_mount *m = c->volume->mount;
	pthread_mutex_lock(&c->lock);
	bool again = settle_locked(p, result, err);
	if (again) {
		c->in_flight++;
		pthread_mutex_unlock(&c->lock);
		hither_mount_submit(m, &p->io);
		pthread_mutex_lock(&c->lock);
	}
	if (!pthread_equal(c->thread, pthread_self()))
		export_send_locked(c);
	/* From here on the connection may end. */
	c->in_flight--;
	c->ends++;
	export_kick_locked(c);
	pthread_mutex_unlock(&c->lock);
}

/* --- beginnings --- */

static void submit_locked(struct export_piece *p, enum hither_io_op op, uint64_t offset, size_t len,
                          void *buf)
{
	struct export_connection *c = p->request->connection;
	p->io = (struct hither_io){
	        .op = op, .offset = offset, .len = len, .buf = buf, .done = piece_done};
	p->request->pieces++;
	c->in_flight++;
	pthread_mutex_unlock(&c->lock);
	hither_mount_submit(c->volume->mount, &p->io);
	pthread_mutex_lock(&c->lock);
}

/* Without memory for a reply there is no way to go on. */
static struct export_piece *reply_piece_locked(struct export_connection *c,
                                               struct export_request *r, size_t len)
{
	struct export_piece *p = export_piece_take_locked(c, r, len);
	if (!p)
		c->broken = true;
	return p;
}

static void answer_locked(struct export_connection *c, struct export_request *r)
{
	struct export_piece *p = reply_piece_locked(c, r, 0);
	r->left = 0;
	if (p)
		export_reply_end_locked(p, r);
	else
		export_request_release_locked(c, r);
}

static void refuse_locked(struct export_connection *c, struct export_request *r, uint32_t error,
                          const char *message)
{
	note_error(r, error, message);
	if (r->command == NBD_CMD_WRITE && r->len) {
		c->receiving = EXPORT_SKIP;
		c->skip = r->len;
		c->refused = r;
	} else {
		answer_locked(c, r);
	}
}

static void work_append_locked(struct export_connection *c, struct export_request *r)
{
	r->next = NULL;
	*c->work_tail = r;
	c->work_tail = &r->next;
}

/* Few bytes are copied: quicker than finding out that they change nothing. */
static bool is_lent(const struct export_connection *c, size_t len)
{
	return c->volume->view && len > EXPORT_SMALL_BYTES;
}

static struct export_piece *read_piece_locked(struct export_connection *c, struct export_request *r,
                                              uint64_t offset, size_t len)
{
	bool lent = is_lent(c, len);
	struct export_piece *p = reply_piece_locked(c, r, lent ? 0 : len);
	if (p && lent)
		p->data = c->volume->view + offset;
	return p;
}

static void submit_read_locked(struct export_piece *p, uint64_t offset, size_t len)
{
	submit_locked(p, HITHER_IO_READ, offset, len, p->data == p->bytes ? p->bytes : NULL);
}

/* All of it in one piece. */
static void read_whole_locked(struct export_connection *c, struct export_request *r)
{
	struct export_piece *p = read_piece_locked(c, r, r->offset, (size_t)r->len);
	r->at = r->len;
	if (p)
		submit_read_locked(p, r->offset, (size_t)r->len);
	else
		export_request_release_locked(c, r);
}

static void begin_read_locked(struct export_connection *c, struct export_request *r)
{
	r->structured = c->structured_replies;
	/* Where the client has asked for much, its bytes are not fetched before it takes them. */
	if (r->len > EXPORT_SMALL_BYTES)
		work_append_locked(c, r);
	else
		read_whole_locked(c, r);
}

static void begin_status_locked(struct export_connection *c, struct export_request *r)
{
	struct export_piece *p = reply_piece_locked(c, r, 0);
	if (!p) {
		export_request_release_locked(c, r);
		return;
	}
	r->left = 0;
	pthread_mutex_unlock(&c->lock);
	export_block_status(p);
	pthread_mutex_lock(&c->lock);
	export_reply_end_locked(p, r);
}

/* We may keep the bytes, and do what is no whole block; and all of them where a hole is no gain. */
static void begin_trim_locked(struct export_connection *c, struct export_request *r)
{
	uint64_t unit = EXPORT_TRIM_BYTES, end = r->offset + r->len;
	uint64_t first = (r->offset + unit - 1) / unit * unit;
	struct export_piece *p;
	if (end != c->volume->size_bytes)
		end -= end % unit;
	if (first >= end || !hither_mount_discards(c->volume->mount)) {
		answer_locked(c, r);
		return;
	}
	r->at = r->len = r->left = end - first;
	if ((p = reply_piece_locked(c, r, 0)))
		submit_locked(p, HITHER_IO_DISCARD, first, (size_t)r->len, NULL);
	else
		export_request_release_locked(c, r);
}

static bool makes_holes(const struct export_connection *c, const struct export_request *r)
{
	return !(r->flags & NBD_CMD_FLAG_NO_HOLE) && hither_mount_discards(c->volume->mount);
}

/* A part of a request for zeros. Others follow it, or are under way, but for the last one. */
static void zero_part_locked(struct export_connection *c, struct export_request *r,
                             enum hither_io_op op, uint64_t from, uint64_t to)
{
	if (from >= to)
		return;
	struct export_piece *p = reply_piece_locked(c, r, 0);
	if (p)
		submit_locked(p, op, from, (size_t)(to - from),
		              op == HITHER_IO_WRITE ? (void *)(uintptr_t)zeros : NULL);
	else if (!(r->left -= to - from) && !r->pieces)
		export_request_release_locked(c, r); /* nobody else ends it */
}

/* Whole blocks are holes from now on, where the mount can have them; the rest is written. */
static void begin_zeroes_locked(struct export_connection *c, struct export_request *r)
{
	uint64_t unit = EXPORT_TRIM_BYTES, from = r->offset, to = from + r->len;
	uint64_t first = (from + unit - 1) / unit * unit,
	         last = to == c->volume->size_bytes ? to : to - to % unit;
	if (first >= last || !makes_holes(c, r)) {
		work_append_locked(c, r);
		return;
	}
	r->at = r->len;
	/* The last of these may end r. */
	zero_part_locked(c, r, HITHER_IO_WRITE, from, first);
	zero_part_locked(c, r, HITHER_IO_WRITE, last, to);
	zero_part_locked(c, r, HITHER_IO_DISCARD, first, last);
}

static void begin_locked(struct export_connection *c, struct export_request *r)
{
	struct export_piece *p;
	switch (r->command) {
	case NBD_CMD_READ:
		begin_read_locked(c, r);
		break;
	case NBD_CMD_WRITE:
		c->receives = r;
		c->receiving = EXPORT_PAYLOAD;
		break;
	case NBD_CMD_FLUSH:
		r->left = r->len = 0;
		if ((p = reply_piece_locked(c, r, 0)))
			submit_locked(p, HITHER_IO_FLUSH, 0, 0, NULL);
		else
			export_request_release_locked(c, r);
		break;
	case NBD_CMD_WRITE_ZEROES:
		begin_zeroes_locked(c, r);
		break;
	case NBD_CMD_CACHE:
		work_append_locked(c, r);
		break;
	case NBD_CMD_BLOCK_STATUS:
		begin_status_locked(c, r);
		break;
	case NBD_CMD_TRIM:
		begin_trim_locked(c, r);
		break;
	default:
		answer_locked(c, r);
		break;
	}
}

/* --- steps of long requests --- */

static bool is_zeroing(const struct export_request *r)
{
	return r->command == NBD_CMD_WRITE_ZEROES;
}

static bool may_step_locked(const struct export_connection *c, const struct export_request *r)
{
	return r->pieces < EXPORT_PARALLEL_PIECES &&
	       (r->command != NBD_CMD_READ || c->output_bytes < OUTPUT_AHEAD);
}

static bool step_locked(struct export_connection *c, struct export_request *r)
{
	bool whole = r->command == NBD_CMD_READ && (!r->structured || (r->flags & NBD_CMD_FLAG_DF));
	size_t len = EXPORT_PIECE_BYTES;
	if (len > r->len - r->at)
		len = (size_t)(r->len - r->at);
	if (whole) {
		uint64_t room = is_lent(c, (size_t)r->len) ? 0 : r->len;
		if (c->bytes && c->bytes + room > c->server->options.connection_bytes)
			return false;
		work_remove_locked(c, r);
		read_whole_locked(c, r);
		return true;
	}
	if (c->bytes > c->server->options.connection_bytes)
		return false;
	uint64_t offset = r->offset + r->at;
	bool zeroing = is_zeroing(r);
	struct export_piece *p =
	        zeroing ? reply_piece_locked(c, r, 0) : read_piece_locked(c, r, offset, len);
	if (!p)
		return false;
	r->at += len;
	bool turn_over = r->at % EXPORT_TURN_BYTES == 0 || r->at == r->len;
	if (turn_over)
		work_remove_locked(c, r);
	if (turn_over && r->at < r->len)
		work_append_locked(c, r);
	if (zeroing)
		submit_locked(p, HITHER_IO_WRITE, offset, len, (void *)(uintptr_t)zeros);
	else
		submit_read_locked(p, offset, len);
	return true;
}

static bool step_some_locked(struct export_connection *c)
{
	c->starved = false;
	if (c->broken)
		return false;
	for (struct export_request *r = c->work; r; r = r->next) {
		if (!may_step_locked(c, r))
			continue;
		bool stepped = step_locked(c, r);
		c->starved = !stepped;
		return stepped;
	}
	return false;
}

bool export_step(struct export_connection *c)
{
	HITHER_LOCK_SCOPE(&c->lock);
	bool any = false;
	while (step_some_locked(c)) {
		any = true;
		if (c->output_bytes >= EXPORT_PIECE_BYTES)
			break;
	}
	return any;
}

/* --- what comes in --- */

bool export_has_room(struct export_connection *c)
{
	HITHER_LOCK_SCOPE(&c->lock);
	return !c->starved && c->requests < EXPORT_REQUESTS_MAX &&
	       c->bytes < c->server->options.connection_bytes;
}

static bool is_beyond(const struct export_connection *c, const struct export_request *r)
{
	uint64_t size = c->volume->size_bytes;
	return r->offset > size || r->len > size - r->offset;
}

static bool changes(const struct export_request *r)
{
	return r->command == NBD_CMD_WRITE || r->command == NBD_CMD_TRIM || is_zeroing(r);
}

/* The flags that a command may have. */
static uint16_t flags_of(enum nbd_command command)
{
	switch (command) {
	case NBD_CMD_READ: /* DF is for those who have structured replies; others are forgiven */
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF;
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

/* 0, or the error of a request that makes no sense; *why then tells. */
static uint32_t judge(const struct export_connection *c, const struct export_request *r,
                      const char **why)
{
	*why = "";
	if (r->command > NBD_CMD_BLOCK_STATUS)
		return *why = "there is no such command", NBD_EINVAL;
	if (r->flags & ~flags_of(r->command))
		return *why = "the command has no such flag", NBD_EINVAL;
	if (r->command == NBD_CMD_FLUSH)
		return 0;
	if (changes(r) && c->volume->read_only)
		return *why = "this export is read-only", NBD_EPERM;
	if (is_beyond(c, r))
		return *why = "beyond the end",
		       r->command == NBD_CMD_WRITE || is_zeroing(r) ? NBD_ENOSPC : NBD_EINVAL;
	if (r->command == NBD_CMD_READ && r->len > EXPORT_REQUEST_MAX)
		return *why = "longer than 32 MiB", NBD_EOVERFLOW;
	if (is_zeroing(r) && (r->flags & NBD_CMD_FLAG_FAST_ZERO) && !makes_holes(c, r))
		return *why = "zeroing is no faster than writing here", NBD_ENOTSUP;
	if (r->command == NBD_CMD_BLOCK_STATUS) {
		bool any = false;
		for (int i = 0; i < EXPORT_CONTEXTS; i++)
			any |= c->contexts[i];
		if (!any)
			return *why = "no context was negotiated", NBD_EINVAL;
		if (!r->len)
			return *why = "of no bytes there is no status", NBD_EINVAL;
	}
	return 0;
}

static int take_header(struct export_connection *c, struct hither_error *err)
{
	const uint8_t *h = c->input + c->input_first;
	const char *why;
	if (nbd_get32(h) != NBD_REQUEST_MAGIC)
		return hither_fail(err, -EPROTO,
		                   "a request begins with 0x%08" PRIx32 ", which is no NBD",
		                   nbd_get32(h));
	HITHER_LOCK_SCOPE(&c->lock);
	c->input_first += NBD_REQUEST_BYTES;
	c->request_count++;
	if (nbd_get16(h + 6) == NBD_CMD_DISC) {
		c->hung_up = true;
		return 0;
	}
	struct export_request *r = export_request_take_locked(c);
	if (!r)
		return hither_fail(err, -ENOMEM, "no memory for a request");
	r->flags = nbd_get16(h + 4);
	r->command = nbd_get16(h + 6);
	r->cookie = nbd_get64(h + 8);
	r->offset = nbd_get64(h + 16);
	r->len = r->left = nbd_get32(h + 24);
	if (r->command == NBD_CMD_WRITE && r->len > EXPORT_REQUEST_MAX) {
		export_request_release_locked(c, r);
		return hither_fail(err, -EPROTO, "a write of %" PRIu32 " bytes, at most %d can be",
		                   nbd_get32(h + 24), EXPORT_REQUEST_MAX);
	}
	c->bulk = r->command == NBD_CMD_WRITE && r->len >= BULK_BYTES;
	uint32_t error = judge(c, r, &why);
	if (error)
		refuse_locked(c, r, error, why);
	else if (!r->len && r->command != NBD_CMD_READ && r->command != NBD_CMD_FLUSH)
		answer_locked(c, r);
	else
		begin_locked(c, r);
	return 0;
}

/* The piece that payload goes to; NULL: there is no room yet. */
static struct export_piece *payload_piece(struct export_connection *c)
{
	struct export_request *r = c->receives;
	if (c->payload || !export_has_room(c))
		return c->payload;
	uint64_t left = r->len - r->at;
	HITHER_LOCK_SCOPE(&c->lock);
	c->payload_at = 0;
	c->payload = reply_piece_locked(
	        c, r, left < EXPORT_PIECE_BYTES ? (size_t)left : EXPORT_PIECE_BYTES);
	if (c->payload)
		c->payload->data_len =
		        left < EXPORT_PIECE_BYTES ? (size_t)left : EXPORT_PIECE_BYTES;
	return c->payload;
}

size_t export_payload_room(struct export_connection *c, void **at)
{
	if (c->receiving != EXPORT_PAYLOAD || !c->payload || c->input_first < c->input_end)
		return 0;
	*at = c->payload->bytes + c->payload_at;
	return c->payload->data_len - c->payload_at;
}

void export_payload_arrived(struct export_connection *c, size_t len)
{
	struct export_piece *p = c->payload;
	c->payload_at += len;
	if (c->payload_at < p->data_len)
		return;
	struct export_request *r = c->receives;
	uint64_t offset = r->offset + r->at;
	len = p->data_len;
	p->data_len = 0;
	c->payload = NULL;
	HITHER_LOCK_SCOPE(&c->lock);
	c->written_bytes += len;
	r->at += len;
	if (r->at == r->len) {
		c->receives = NULL;
		c->receiving = EXPORT_HEADER;
	}
	submit_locked(p, HITHER_IO_WRITE, offset, len, p->bytes);
}

/* False: more input is needed, or room. */
static bool take_payload(struct export_connection *c)
{
	size_t has = c->input_end - c->input_first;
	struct export_piece *p = payload_piece(c);
	if (!p || !has)
		return false;
	size_t len = p->data_len - c->payload_at;
	if (len > has)
		len = has;
	memcpy(p->bytes + c->payload_at, c->input + c->input_first, len);
	c->input_first += len;
	export_payload_arrived(c, len);
	return true;
}

static bool take_skipped(struct export_connection *c)
{
	size_t has = c->input_end - c->input_first;
	if (!has)
		return false;
	if (has > c->skip)
		has = (size_t)c->skip;
	c->input_first += has;
	c->skip -= has;
	if (c->skip)
		return false;
	HITHER_LOCK_SCOPE(&c->lock);
	c->receiving = EXPORT_HEADER;
	answer_locked(c, HITHER_TAKE(c->refused, NULL));
	return true;
}

/* Replies leave many at a time, but not so late that the client idles. */
static void send_batch(struct export_connection *c)
{
	HITHER_LOCK_SCOPE(&c->lock);
	if (c->output_bytes >= OUTPUT_BATCH)
		export_send_locked(c);
}

int export_take_requests(struct export_connection *c, struct hither_error *err)
{
	bool more = true;
	int r = 0;
	while (more && !r && !c->hung_up) {
		if (c->receiving == EXPORT_PAYLOAD) {
			more = take_payload(c);
		} else if (c->receiving == EXPORT_SKIP) {
			more = take_skipped(c);
		} else {
			more = c->input_end - c->input_first >= NBD_REQUEST_BYTES &&
			       export_has_room(c);
			if (more)
				r = take_header(c, err);
		}
		send_batch(c);
	}
	return r;
}
