/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed newstyle handshake. Whoever talks to us here may be anybody: what they can make us keep
 * is one option's data, in a buffer of fixed size, until the deadline.
 */
#include "base/clock.h"
#include "export_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

enum { EXPORT_NAME_ZEROES = 124 };

/* --- whole parts --- */

static int wait_for(struct export_talk *t, short events)
{
	struct export_connection *c = t->c;
	struct pollfd fds[2] = {{.fd = c->stream.fd, .events = events},
	                        {.fd = c->wake_fd, .events = POLLIN}};
	uint64_t now = hither_now_ns();
	if (atomic_load(&c->ending))
		return hither_fail(t->err, -ECONNRESET, "the server stops");
	if (now < t->deadline_ns &&
	    poll(fds, 2, (int)((t->deadline_ns - now) / HITHER_NS_PER_MS + 1)) != 0)
		return 0;
	return hither_fail(t->err, -ETIMEDOUT, "not within %u ms", c->server->options.handshake_ms);
}

static int receive_some(struct export_talk *t)
{
	struct export_connection *c = t->c;
	for (;;) {
		ssize_t n = export_stream_recv(&c->stream, c->input, EXPORT_INPUT_BYTES,
		                               EXPORT_WAIT_NOT);
		int r = 0;
		if (n > 0) {
			c->input_first = 0;
			c->input_end = (size_t)n;
			return 0;
		}
		if (n == 0)
			return hither_fail(t->err, -ECONNRESET, "it has hung up");
		if (n != -EAGAIN)
			return hither_fail(t->err, (int)n, "receive: %s", strerror(-(int)n));
		r = wait_for(t, POLLIN);
		if (r)
			return r;
	}
}

/* buf NULL: skip them. */
static int take(struct export_talk *t, void *buf, size_t len)
{
	struct export_connection *c = t->c;
	uint8_t *to = buf;
	while (len) {
		size_t has = c->input_end - c->input_first;
		if (!has) {
			int r = receive_some(t);
			if (r)
				return r;
			continue;
		}
		if (has > len)
			has = len;
		if (to) {
			memcpy(to, c->input + c->input_first, has);
			to += has;
		}
		c->input_first += has;
		len -= has;
	}
	return 0;
}

static int give(struct export_talk *t, struct iovec *parts, int count)
{
	struct export_stream *s = &t->c->stream;
	int r = 0;
	while (count) {
		ssize_t n = export_stream_send(s, parts, count);
		if (n == -EAGAIN && (r = wait_for(t, POLLOUT)))
			return r;
		if (n < 0 && n != -EAGAIN)
			return hither_fail(t->err, -ECONNRESET, "send: %s", strerror(-(int)n));
		for (; count && n >= 0 && (size_t)n >= parts->iov_len; parts++, count--)
			n -= (ssize_t)parts->iov_len;
		if (count && n > 0) {
			parts->iov_base = (char *)parts->iov_base + n;
			parts->iov_len -= (size_t)n;
		}
	}
	while ((r = export_stream_flush(s)) == -EAGAIN)
		if ((r = wait_for(t, POLLOUT)))
			return r;
	return r ? hither_fail(t->err, -ECONNRESET, "send: %s", strerror(-r)) : 0;
}

static int give_bytes(struct export_talk *t, const void *bytes, size_t len)
{
	struct iovec part = {(void *)(uintptr_t)bytes, len};
	return give(t, &part, 1);
}

int export_talk_reply(struct export_talk *t, uint32_t type, const void *data, size_t len)
{
	uint8_t header[NBD_OPTION_REPLY_BYTES], *at = header;
	struct iovec parts[2] = {{header, sizeof header}, {(void *)(uintptr_t)data, len}};
	at = nbd_put64(at, NBD_REP_MAGIC);
	at = nbd_put32(at, t->option);
	at = nbd_put32(at, type);
	nbd_put32(at, (uint32_t)len);
	return give(t, parts, len ? 2 : 1);
}

int export_talk_error(struct export_talk *t, enum nbd_option_error error, const char *message)
{
	return export_talk_reply(t, NBD_REP_ERROR | error, message, strlen(message));
}

/* --- options --- */

static uint16_t flags_for(const struct export_connection *c, const struct export_volume *v)
{
	return (uint16_t)(v->flags | (c->structured_replies ? NBD_FLAG_SEND_DF : 0));
}

static int choose(struct export_talk *t, struct export_volume *v)
{
	struct export_connection *c = t->c;
	if (c->context_volume != v) /* they were chosen for another one, or none were */
		memset(c->contexts, 0, sizeof c->contexts);
	c->volume = v;
	return 0;
}

static int export_name(struct export_talk *t, uint32_t len, bool no_zeroes)
{
	uint8_t reply[10 + EXPORT_NAME_ZEROES] = {0};
	struct export_volume *v = export_find(t->c->server, t->data, len);
	if (!v) /* the protocol has no answer for this one */
		return hither_fail(t->err, -ENOENT, "there is no export of the name it wants");
	nbd_put16(nbd_put64(reply, v->size_bytes), flags_for(t->c, v));
	int r = give_bytes(t, reply, no_zeroes ? 10 : sizeof reply);
	return r ? r : choose(t, v);
}

static int list(struct export_talk *t, uint32_t len)
{
	const struct hither_export *e = t->c->server;
	uint8_t reply[2 * NBD_NAME_BYTES + 4];
	int r = 0;
	if (len)
		return export_talk_error(t, NBD_REP_ERR_INVALID, "a list request has no data");
	for (size_t i = 0; i < e->volume_count && !r; i++) {
		const struct export_volume *v = &e->volumes[i];
		uint8_t *at = nbd_put32(reply, (uint32_t)strlen(v->name));
		at = nbd_put_text(nbd_put_text(at, v->name), v->description);
		r = export_talk_reply(t, NBD_REP_SERVER, reply, (size_t)(at - reply));
	}
	return r ? r : export_talk_reply(t, NBD_REP_ACK, NULL, 0);
}

static int info_text(struct export_talk *t, enum nbd_info info, const char *text)
{
	uint8_t reply[2 + NBD_NAME_BYTES];
	const uint8_t *end = nbd_put_text(nbd_put16(reply, (uint16_t)info), text);
	return export_talk_reply(t, NBD_REP_INFO, reply, (size_t)(end - reply));
}

static int info_numbers(struct export_talk *t, const struct export_volume *v)
{
	uint8_t reply[14], *at = nbd_put16(reply, NBD_INFO_EXPORT);
	at = nbd_put64(at, v->size_bytes);
	at = nbd_put16(at, flags_for(t->c, v));
	int r = export_talk_reply(t, NBD_REP_INFO, reply, (size_t)(at - reply));
	at = nbd_put16(reply, NBD_INFO_BLOCK_SIZE);
	at = nbd_put32(at, 1);
	at = nbd_put32(at, 4096);
	at = nbd_put32(at, EXPORT_REQUEST_MAX);
	return r ? r : export_talk_reply(t, NBD_REP_INFO, reply, (size_t)(at - reply));
}

static int info_wanted(struct export_talk *t, const struct export_volume *v, const uint8_t *wanted,
                       unsigned count)
{
	bool name = false, description = false; /* once each, however often they are asked for */
	int r = 0;
	for (unsigned i = 0; i < count; i++) {
		name |= nbd_get16(wanted + 2 * i) == NBD_INFO_NAME;
		description |= nbd_get16(wanted + 2 * i) == NBD_INFO_DESCRIPTION;
	}
	if (name)
		r = info_text(t, NBD_INFO_NAME, v->name);
	if (!r && description && *v->description)
		r = info_text(t, NBD_INFO_DESCRIPTION, v->description);
	return r;
}

static int info_or_go(struct export_talk *t, uint32_t len)
{
	if (len < 6 || nbd_get32(t->data) > len - 6)
		return export_talk_error(t, NBD_REP_ERR_INVALID, "the name's length is wrong");
	uint32_t name_len = nbd_get32(t->data);
	const uint8_t *wanted = t->data + 4 + name_len;
	unsigned count = nbd_get16(wanted);
	if (len != 6 + name_len + 2 * count)
		return export_talk_error(t, NBD_REP_ERR_INVALID, "the option's length is wrong");
	struct export_volume *v = export_find(t->c->server, t->data + 4, name_len);
	if (!v)
		return export_talk_error(t, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
	int r = info_numbers(t, v);
	if (!r)
		r = info_wanted(t, v, wanted + 2, count);
	if (!r)
		r = export_talk_reply(t, NBD_REP_ACK, NULL, 0);
	return r || t->option == NBD_OPT_INFO ? r : choose(t, v);
}

static int start_tls(struct export_talk *t, uint32_t len)
{
	struct export_connection *c = t->c;
	if (len)
		return export_talk_error(t, NBD_REP_ERR_INVALID, "STARTTLS has no data");
	if (c->stream.tls)
		return export_talk_error(t, NBD_REP_ERR_INVALID, "this is TLS already");
	if (!c->server->tls)
		return export_talk_error(t, NBD_REP_ERR_POLICY, "this server has no TLS");
	int r = export_talk_reply(t, NBD_REP_ACK, NULL, 0);
	if (r)
		return r;
	/* What came in clear text after the request could be somebody else's. */
	if (c->input_first < c->input_end)
		return hither_fail(t->err, -EPROTO, "clear text follows STARTTLS");
	r = export_tls_start(&c->stream, c->server->tls, t->err);
	while (!r && (r = export_tls_handshake(&c->stream, t->err)) == -EAGAIN)
		r = wait_for(t, POLLIN);
	c->structured_replies = false;
	c->context_volume = NULL;
	memset(c->contexts, 0, sizeof c->contexts);
	return r;
}

static int structured_reply(struct export_talk *t, uint32_t len)
{
	if (len)
		return export_talk_error(t, NBD_REP_ERR_INVALID, "the option has no data");
	t->c->structured_replies = true;
	return export_talk_reply(t, NBD_REP_ACK, NULL, 0);
}

static int obey(struct export_talk *t, uint32_t len, bool no_zeroes)
{
	struct export_connection *c = t->c;
	bool closed = c->server->options.tls == HITHER_EXPORT_TLS_REQUIRE && !c->stream.tls;
	if (t->option == NBD_OPT_ABORT) {
		export_talk_reply(t, NBD_REP_ACK, NULL, 0);
		return hither_fail(t->err, -ECONNRESET, "it took its leave");
	}
	if (closed && t->option == NBD_OPT_EXPORT_NAME)
		return hither_fail(t->err, -EACCES, "it has no TLS, which is required");
	if (closed && t->option != NBD_OPT_STARTTLS)
		return export_talk_error(t, NBD_REP_ERR_TLS_REQD, "this server requires TLS");
	switch (t->option) {
	case NBD_OPT_EXPORT_NAME:
		return export_name(t, len, no_zeroes);
	case NBD_OPT_LIST:
		return list(t, len);
	case NBD_OPT_STARTTLS:
		return start_tls(t, len);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return info_or_go(t, len);
	case NBD_OPT_STRUCTURED_REPLY:
		return structured_reply(t, len);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return export_meta_context(t, len);
	default:
		return export_talk_error(t, NBD_REP_ERR_UNSUP, "there is no such option");
	}
}

static int next_option(struct export_talk *t, bool no_zeroes)
{
	uint8_t header[NBD_OPTION_BYTES];
	int r = take(t, header, sizeof header);
	if (r)
		return r;
	if (nbd_get64(header) != NBD_OPTION_MAGIC)
		return hither_fail(t->err, -EPROTO, "what should be an option is no NBD");
	t->option = nbd_get32(header + 8);
	uint32_t len = nbd_get32(header + 12);
	if (len > EXPORT_OPTION_SKIPPED)
		return hither_fail(t->err, -EPROTO, "an option of %" PRIu32 " bytes", len);
	if (len > sizeof t->data) {
		r = take(t, NULL, len);
		if (!r && t->option == NBD_OPT_EXPORT_NAME)
			r = hither_fail(t->err, -EPROTO, "a name of %" PRIu32 " bytes", len);
		return r ? r : export_talk_error(t, NBD_REP_ERR_TOO_BIG, "the option is too long");
	}
	r = take(t, t->data, len);
	return r ? r : obey(t, len, no_zeroes);
}

int export_handshake(struct export_connection *c, struct hither_error *err)
{
	uint8_t hello[18], answer[4];
	struct export_talk t = {.c = c, .err = err};
	t.deadline_ns = hither_now_ns() + c->server->options.handshake_ms * HITHER_NS_PER_MS;
	nbd_put16(nbd_put64(nbd_put64(hello, NBD_MAGIC), NBD_OPTION_MAGIC),
	          NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	int r = give_bytes(&t, hello, sizeof hello);
	if (!r)
		r = take(&t, answer, sizeof answer);
	if (r)
		return r;
	uint32_t flags = nbd_get32(answer);
	if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
		return hither_fail(err, -EPROTO, "its flags are 0x%" PRIx32 ", which is no NBD",
		                   flags);
	for (int options = 0; !r && !c->volume; options++) {
		if (options == EXPORT_OPTIONS_MAX)
			return hither_fail(err, -EPROTO, "more than %d options",
			                   EXPORT_OPTIONS_MAX);
		r = next_option(&t, flags & NBD_FLAG_NO_ZEROES);
	}
	return r;
}
