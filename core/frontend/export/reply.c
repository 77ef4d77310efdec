/* SPDX-License-Identifier: Apache-2.0 */
/* Replies: their form, their queue, and sending from it. */
#include "export_internal.h"

#include <errno.h>
#include <stdio.h>

enum { PARTS = 64 };

/* --- form --- */

static uint8_t *put_chunk(const struct export_piece *p, uint8_t *at, enum nbd_chunk_type type,
                          size_t len)
{
	at = nbd_put32(at, NBD_STRUCTURED_REPLY_MAGIC);
	at = nbd_put16(at, p->request->left ? 0 : NBD_CHUNK_DONE);
	at = nbd_put16(at, (uint16_t)type);
	at = nbd_put64(at, p->request->cookie);
	return nbd_put32(at, (uint32_t)len);
}

static void put_simple(struct export_piece *p, uint32_t error)
{
	uint8_t *at = nbd_put32(p->header, NBD_SIMPLE_REPLY_MAGIC);
	at = nbd_put32(at, error);
	nbd_put64(at, p->request->cookie);
	p->header_len = NBD_SIMPLE_REPLY_BYTES;
	if (error)
		p->data_len = 0;
}

static void put_error(struct export_piece *p, bool with_offset, uint32_t error, const char *message)
{
	size_t text = strlen(message);
	size_t len = 6 + text + (with_offset ? 8 : 0);
	uint8_t *at = put_chunk(p, p->header,
	                        with_offset ? NBD_CHUNK_ERROR_OFFSET : NBD_CHUNK_ERROR, len);
	at = nbd_put32(at, error);
	at = nbd_put16(at, (uint16_t)text);
	p->header_len = (size_t)(at - p->header);
	at = nbd_put_text(p->bytes, message);
	if (with_offset)
		nbd_put64(at, p->io.offset);
	p->data = p->bytes;
	p->data_len = len - 6;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	static const uint8_t zeros[16];
	if (len <= sizeof zeros)
		return !memcmp(bytes, zeros, len);
	return !memcmp(bytes, zeros, sizeof zeros) &&
	       !memcmp(bytes, bytes + sizeof zeros, len - sizeof zeros);
}

/* Nothing but zeros is worth a few bytes on the wire, and the client learns that it is a hole. */
static void put_content(struct export_piece *p, size_t len)
{
	uint8_t *at = p->header;
	p->data_len = 0;
	if (len == 0) {
		at = put_chunk(p, at, NBD_CHUNK_NONE, 0);
	} else if (is_zero(p->data, len)) {
		at = put_chunk(p, at, NBD_CHUNK_OFFSET_HOLE, 12);
		at = nbd_put64(at, p->io.offset);
		at = nbd_put32(at, (uint32_t)len);
	} else {
		at = put_chunk(p, at, NBD_CHUNK_OFFSET_DATA, 8 + len);
		at = nbd_put64(at, p->io.offset);
		p->data_len = len;
	}
	p->header_len = (size_t)(at - p->header);
}

void export_reply_read_locked(struct export_piece *p, uint32_t error, const char *message)
{
	struct export_connection *c = p->request->connection;
	if (error)
		put_error(p, true, error, message);
	else
		put_content(p, p->io.len);
	c->read_bytes += p->data_len;
	export_reply_append_locked(c, p);
}

void export_reply_end_locked(struct export_piece *p, struct export_request *r)
{
	struct export_connection *c = r->connection;
	if (r->error && c->structured_replies)
		put_error(p, false, r->error, r->message);
	else if (r->command != NBD_CMD_BLOCK_STATUS || r->error)
		put_simple(p, r->error);
	if (r->command == NBD_CMD_READ)
		c->read_bytes += p->data_len;
	export_reply_append_locked(c, p);
	export_request_release_locked(c, r);
}

/* --- queue --- */

void export_reply_append_locked(struct export_connection *c, struct export_piece *p)
{
	p->next = NULL;
	p->request = NULL;
	*c->output.tail = p;
	c->output.tail = &p->next;
	c->output_bytes += p->header_len + p->data_len;
}

static int gather_locked(const struct export_connection *c, struct iovec parts[PARTS])
{
	size_t skip = c->sent;
	int count = 0;
	for (struct export_piece *p = c->output.head; p && count + 2 <= PARTS; p = p->next) {
		struct iovec both[2] = {{p->header, p->header_len},
		                        {(void *)(uintptr_t)p->data, p->data_len}};
		for (int i = 0; i < 2; i++) {
			size_t gone = skip < both[i].iov_len ? skip : both[i].iov_len;
			skip -= gone;
			if (gone < both[i].iov_len)
				parts[count++] = (struct iovec){(char *)both[i].iov_base + gone,
				                                both[i].iov_len - gone};
		}
	}
	return count;
}

static void advance_locked(struct export_connection *c, size_t n)
{
	c->output_bytes -= n;
	c->sent += n;
	for (struct export_piece *p; (p = c->output.head);) {
		size_t len = p->header_len + p->data_len;
		if (c->sent < len)
			return;
		c->sent -= len;
		c->output.head = p->next;
		if (!p->next)
			c->output.tail = &c->output.head;
		export_piece_release_locked(c, p);
		c->ends++;
	}
}

void export_send_locked(struct export_connection *c)
{
	struct iovec parts[PARTS];
	ssize_t n = 0;
	if (c->sending || c->unsent || c->broken)
		return;
	c->sending = true;
	while (n >= 0) {
		/* Only who is sending takes from the queue: what parts point at stays. */
		int count = gather_locked(c, parts);
		bool plain = !c->stream.tls;
		if (!count && plain)
			break;
		pthread_mutex_unlock(&c->lock);
		n = count ? export_stream_send(&c->stream, parts, count)
		          : export_stream_flush(&c->stream);
		pthread_mutex_lock(&c->lock);
		if (n > 0)
			advance_locked(c, (size_t)n);
		else if (n == 0 && !count && !c->output.head)
			break;
	}
	c->sending = false;
	c->unsent = n == -EAGAIN;
	if (n < 0 && n != -EAGAIN)
		c->broken = true;
}

void export_send(struct export_connection *c)
{
	pthread_mutex_lock(&c->lock);
	export_send_locked(c);
	pthread_mutex_unlock(&c->lock);
}
