/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts of block status: which there are, and which a client wants. */
#include "export_internal.h"

/* A cursor over the option's data. */
struct reader {
	const uint8_t *at, *end;
};

static bool read_text(struct reader *in, const uint8_t **text, uint32_t *len)
{
	if (in->end - in->at < 4)
		return false;
	*len = nbd_get32(in->at);
	in->at += 4;
	if ((size_t)(in->end - in->at) < *len)
		return false;
	*text = in->at;
	in->at += *len;
	return true;
}

/* Exactly the name; or, where that is allowed, a namespace with its colon. */
static bool matches(const char *name, const uint8_t *query, uint32_t len, bool listing)
{
	if (strlen(name) == len && !memcmp(name, query, len))
		return true;
	return listing && len && query[len - 1] == ':' && strlen(name) > len &&
	       !memcmp(name, query, len);
}

static bool read_queries(struct reader *in, uint32_t count, bool listing,
                         bool chosen[EXPORT_CONTEXTS])
{
	const uint8_t *query;
	uint32_t len;
	for (uint32_t i = 0; i < count; i++) {
		if (!read_text(in, &query, &len))
			return false;
		for (int k = 0; k < EXPORT_CONTEXTS; k++)
			chosen[k] |= matches(export_context_names[k], query, len, listing);
	}
	return in->at == in->end;
}

static int reply_chosen(struct export_talk *t, const bool chosen[EXPORT_CONTEXTS])
{
	int r = 0;
	for (uint32_t k = 0; k < EXPORT_CONTEXTS && !r; k++) {
		uint8_t reply[64];
		if (!chosen[k])
			continue;
		const uint8_t *end = nbd_put_text(nbd_put32(reply, k), export_context_names[k]);
		r = export_talk_reply(t, NBD_REP_META_CONTEXT, reply, (size_t)(end - reply));
	}
	return r ? r : export_talk_reply(t, NBD_REP_ACK, NULL, 0);
}

int export_meta_context(struct export_talk *t, size_t len)
{
	struct export_connection *c = t->c;
	struct reader in = {t->data, t->data + len};
	bool listing = t->option == NBD_OPT_LIST_META_CONTEXT, chosen[EXPORT_CONTEXTS] = {false};
	const uint8_t *name;
	uint32_t name_len, count = 0;
	if (!c->structured_replies)
		return export_talk_error(t, NBD_REP_ERR_INVALID,
		                         "structured replies are to be negotiated first");
	if (!listing) { /* each attempt replaces what was chosen before */
		c->context_volume = NULL;
		memset(c->contexts, 0, sizeof c->contexts);
	}
	bool good = read_text(&in, &name, &name_len) && in.end - in.at >= 4;
	if (good) {
		count = nbd_get32(in.at);
		in.at += 4;
		good = read_queries(&in, count, listing, chosen);
	}
	if (!good)
		return export_talk_error(t, NBD_REP_ERR_INVALID, "the option's lengths are wrong");
	const struct export_volume *v = export_find(c->server, name, name_len);
	if (!v)
		return export_talk_error(t, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
	if (listing && !count)
		memset(chosen, true, sizeof chosen);
	if (!listing) {
		memcpy(c->contexts, chosen, sizeof chosen);
		c->context_volume = v;
	}
	return reply_chosen(t, chosen);
}
