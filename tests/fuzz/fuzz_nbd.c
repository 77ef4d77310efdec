/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an NBD client sends. Input: a byte that says where it begins (0: in the handshake, 1: in
 * transmission, 2: in transmission of an export that cannot be written, 3: in the handshake of a
 * server that requires TLS) how it is cut in pieces, and whether transmission
 * begins with structured replies; then the client's bytes. What the server
 * answers must be well-formed NBD, whatever it was asked.
 */
#include "base/cleanup.h"
#include "check.h"
#include "frontend/export/export_internal.h"
#include "fuzz.h"

#include <errno.h>

enum { SIZE = 1 << 20 };

/* The network, and a judge of what comes from the server. */
struct peer {
	const uint8_t *data;
	size_t size, at, step;
	bool transmission, greeted;
	uint8_t reply[256]; /* what has come and is not whole yet */
	size_t reply_len;
	uint64_t skip; /* bytes of data that still belong to the last reply */
	uint64_t replies;
};

static struct peer peer;
static struct hither_mount *mounts[2];
static struct hither_export *servers[2]; /* an open one, and one that requires TLS */

static ssize_t peer_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait)
{
	size_t left = peer.size - peer.at;
	if (len > left)
		len = left;
	if (len > peer.step)
		len = peer.step;
	memcpy(buf, peer.data + peer.at, len);
	peer.at += len;
	return (ssize_t)len;
}

/* How long the first reply of those in peer.reply is, without its data; 0: not all of it is here.
 */
static size_t transmission_reply(void)
{
	const uint8_t *p = peer.reply;
	if (peer.reply_len < NBD_SIMPLE_REPLY_BYTES)
		return 0;
	if (nbd_get32(p) == NBD_SIMPLE_REPLY_MAGIC) /* reads' data is not told apart: see below */
		return NBD_SIMPLE_REPLY_BYTES;
	CHECK_EQ(nbd_get32(p), NBD_STRUCTURED_REPLY_MAGIC);
	if (peer.reply_len < NBD_CHUNK_BYTES)
		return 0;
	CHECK(nbd_get16(p + 4) <= NBD_CHUNK_DONE);
	unsigned type = nbd_get16(p + 6);
	uint32_t len = nbd_get32(p + 16);
	CHECK(type == NBD_CHUNK_NONE || type == NBD_CHUNK_OFFSET_DATA ||
	      type == NBD_CHUNK_OFFSET_HOLE || type == NBD_CHUNK_BLOCK_STATUS ||
	      type == NBD_CHUNK_ERROR || type == NBD_CHUNK_ERROR_OFFSET);
	CHECK(len <= 8 + (32u << 20));
	CHECK(type != NBD_CHUNK_NONE || len == 0);
	CHECK(type != NBD_CHUNK_OFFSET_HOLE || len == 12);
	CHECK(type != NBD_CHUNK_OFFSET_DATA || len > 8);
	peer.skip = len;
	return NBD_CHUNK_BYTES;
}

static size_t option_reply(void)
{
	const uint8_t *p = peer.reply;
	if (!peer.greeted) {
		if (peer.reply_len < 18)
			return 0;
		CHECK(nbd_get64(p) == NBD_MAGIC && nbd_get64(p + 8) == NBD_OPTION_MAGIC);
		peer.greeted = true;
		return 18;
	}
	if (peer.reply_len >= 8 &&
	    nbd_get64(p) != NBD_REP_MAGIC) { /* answers NBD_OPT_EXPORT_NAME */
		CHECK_EQ(nbd_get64(p), SIZE);
		bool no_zeroes = peer.data[3] & NBD_FLAG_NO_ZEROES;
		if (peer.reply_len < (no_zeroes ? 10 : 134))
			return 0;
		peer.transmission = true;
		return peer.reply_len;
	}
	if (peer.reply_len < NBD_OPTION_REPLY_BYTES)
		return 0;
	uint32_t option = nbd_get32(p + 8), type = nbd_get32(p + 12);
	peer.skip = nbd_get32(p + 16);
	CHECK(peer.skip <= 2 * NBD_NAME_BYTES + 64);
	CHECK(type == NBD_REP_ACK || type == NBD_REP_SERVER || type == NBD_REP_INFO ||
	      type == NBD_REP_META_CONTEXT || (type & NBD_REP_ERROR));
	if (type == NBD_REP_ACK && option == NBD_OPT_GO)
		peer.transmission = true;
	return NBD_OPTION_REPLY_BYTES;
}

static void judge(const uint8_t *bytes, size_t len, bool structured)
{
	while (len) {
		size_t n = len < peer.skip ? len : (size_t)peer.skip;
		peer.skip -= n;
		bytes += n;
		len -= n;
		/* A simple reply's data has no length of its own: no more can be judged. */
		if (peer.transmission && !structured)
			return;
		if (!len)
			return;
		CHECK(peer.reply_len < sizeof peer.reply);
		peer.reply[peer.reply_len++] = *bytes++;
		len--;
		size_t whole = peer.transmission ? transmission_reply() : option_reply();
		if (whole) {
			peer.reply_len = 0;
			peer.replies++;
		}
	}
}

static ssize_t peer_send(struct export_stream *s, const struct iovec *parts, int count)
{
	struct export_connection *c = HITHER_CONTAINER(s, struct export_connection, stream);
	ssize_t sum = 0;
	CHECK(count > 0);
	for (int i = 0; i < count; i++) {
		judge(parts[i].iov_base, parts[i].iov_len, c->structured_replies);
		sum += (ssize_t)parts[i].iov_len;
	}
	/* No client can make it queue more than it may have under way, and a little. */
	pthread_mutex_lock(&c->lock);
	CHECK(c->output_bytes <= (64u << 20));
	pthread_mutex_unlock(&c->lock);
	return sum;
}

static const struct export_stream_ops peer_ops = {.recv = peer_recv, .send = peer_send};

static void prepare(void)
{
	struct hither_error err = {0};
	/* All local at once, so that one input always does the same. */
	static const struct hither_mount_options local = {.pull_off = true};
	struct hither_export_volume volumes[2] = {{.name = "a", .description = "first"},
	                                          {.name = "bb", .read_only = true}};
	struct hither_export_options options = {.connection_bytes = 1 << 20};
	for (int i = 0; i < 2; i++) {
		struct hither_backend *b;
		CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
		if (i == 0) /* one makes holes */
			b->flags |= HITHER_BACKEND_SPARSE;
		CHECK_OK(hither_mount_backend(b, "fuzz", &local, &mounts[i], &err));
		CHECK_OK(hither_mount_pull(mounts[i], &err));
		volumes[i].mount = mounts[i];
	}
	for (int i = 0; i < 2; i++) {
		CHECK_OK(hither_export_create(volumes, 2, &options, &servers[i], &err));
		servers[i]->options.tls = i ? HITHER_EXPORT_TLS_REQUIRE : HITHER_EXPORT_TLS_OFF;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = {1 << 20, 1, 7, 100};
	if (!servers[0])
		prepare();
	if (!size)
		return 0;
	unsigned begin = *data & 3;
	struct hither_export *e = servers[begin == 3];
	peer = (struct peer){.data = data + 1,
	                     .size = size - 1,
	                     .step = steps[(*data >> 2) & 3],
	                     .transmission = begin == 1 || begin == 2};
	export_connection_run(e, &peer_ops, peer.transmission ? &e->volumes[begin - 1] : NULL,
	                      (*data >> 4) & 1);
	struct hither_export_stats stats;
	hither_export_stats(e, &stats);
	CHECK_EQ(stats.connected, 0);
	return 0;
}
