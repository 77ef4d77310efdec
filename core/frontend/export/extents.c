/* SPDX-License-Identifier: Apache-2.0 */
/* Block status: which bytes are holes, which are dirty, which are local. */
#include "export_internal.h"

enum { EXTENTS_MAX = 512, EXTENT_BYTES = 8, LOOKS_MAX = 4096 };

const char *const export_context_names[EXPORT_CONTEXTS] = {
        [EXPORT_BASE_ALLOCATION] = "base:allocation",
        [EXPORT_DIRTY] = "hither:dirty",
        [EXPORT_LOCAL] = "hither:local",
};

static uint32_t state_of(enum export_context context, uint32_t kind)
{
	switch (context) {
	case EXPORT_BASE_ALLOCATION:
		return kind & HITHER_EXTENT_HOLE ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
	case EXPORT_DIRTY:
		return kind & HITHER_EXTENT_DIRTY ? 1 : 0;
	default:
		return kind & HITHER_EXTENT_LOCAL ? 1 : 0;
	}
}

/* Extents of a range, those of one state joined, to `at`. Returns where they end. */
static uint8_t *put_extents(const struct export_request *r, enum export_context context,
                            uint8_t *at)
{
	struct hither_mount *m = r->connection->volume->mount;
	unsigned most = r->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX, count = 0;
	uint64_t offset = r->offset, end = offset + r->len, run = 0;
	uint32_t state = 0, kind;
	/* How often the mount is asked is limited too: this is the thread that reads requests. */
	for (unsigned looks = 0; offset < end && looks < LOOKS_MAX; looks++) {
		uint64_t len = hither_mount_extent(m, offset, end - offset, &kind);
		if (run && state_of(context, kind) != state) {
			at = nbd_put32(nbd_put32(at, (uint32_t)run), state);
			run = 0;
			if (++count == most)
				return at;
		}
		state = state_of(context, kind);
		run += len;
		offset += len;
	}
	return nbd_put32(nbd_put32(at, (uint32_t)run), state);
}

void export_block_status(struct export_piece *p)
{
	const struct export_request *r = p->request;
	const struct export_connection *c = r->connection;
	uint8_t *at = p->bytes;
	unsigned chosen = 0;
	_Static_assert(EXPORT_CONTEXTS * (NBD_CHUNK_BYTES + 4 + EXTENTS_MAX * EXTENT_BYTES) <=
	                       EXPORT_SMALL_BYTES,
	               "a piece has room for all");
	for (int i = 0; i < EXPORT_CONTEXTS; i++)
		chosen += c->contexts[i];
	for (int i = 0; i < EXPORT_CONTEXTS; i++) {
		if (!c->contexts[i])
			continue;
		uint8_t *body = at + NBD_CHUNK_BYTES;
		uint8_t *end = put_extents(r, i, nbd_put32(body, (uint32_t)i));
		at = nbd_put32(at, NBD_STRUCTURED_REPLY_MAGIC);
		at = nbd_put16(at, --chosen ? 0 : NBD_CHUNK_DONE);
		at = nbd_put16(at, NBD_CHUNK_BLOCK_STATUS);
		at = nbd_put64(at, r->cookie);
		nbd_put32(at, (uint32_t)(end - body));
		at = end;
	}
	p->header_len = 0;
	p->data = p->bytes;
	p->data_len = (size_t)(at - p->bytes);
}
