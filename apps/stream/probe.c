/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hither-stream probe: what a medium is, and what its first frame costs.
 *
 * The bytes are asked for as the order `media` does: head and tail in one round trip, then what of
 * the index is still missing, then the first pieces. What the parser wants and has not got is one
 * more round trip.
 */
#include "stream.h"

#include "json.h"
#include "source.h"
#include "streams.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/media.h>
#include <hither/mount.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define HEAD_BYTES (UINT64_C(64) << 10)
#define TAIL_BYTES (UINT64_C(256) << 10)
#define FIRST_US UINT64_C(1000000) /* of the pieces that begin first */

enum { MOST_TRIPS = 64, MOST_AT_ONCE = 8 };

static const struct option_spec specs[] = {
        {"json", 'j', NULL, "Everything that is known, as one JSON object.", set_true,
         offsetof(struct stream_settings, base.json)},
};
static const struct option_group group = {"Showing", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, &options_network, &options_test, NULL};

struct probe {
	struct hither_media_source source; /* first: of what has been fetched */
	struct hither_mount *mount;
	char *shown_url, *name;
	struct hither_media media;
	unsigned round_trips; /* after the connection was there */
	uint64_t first_bytes, open_ns, first_ns;
	struct streams streams;
};

static int peek(const struct hither_media_source *s, void *buf, size_t len, uint64_t offset)
{
	return hither_mount_peek(((const struct probe *)s)->mount, buf, len, offset);
}

/* --- fetching --- */

struct trip {
	pthread_mutex_t lock;
	pthread_cond_t over;
	size_t left;
	int result;
	struct hither_error *err;
};

struct fetch {
	struct hither_io io; /* first */
	struct trip *trip;
};

static void fetched(struct hither_io *io, int result, const struct hither_error *err)
{
	struct trip *t = ((struct fetch *)io)->trip;
	pthread_mutex_lock(&t->lock);
	if (result && !t->result) {
		t->result = result;
		*t->err = *err;
	}
	t->left--;
	pthread_cond_signal(&t->over);
	pthread_mutex_unlock(&t->lock);
}

/* All of ranges at once; none of them empty, at most MOST_AT_ONCE. */
static int fetch(struct probe *p, const struct hither_range *ranges, size_t count,
                 struct hither_error *err)
{
	struct fetch each[MOST_AT_ONCE];
	struct trip t = {.lock = PTHREAD_MUTEX_INITIALIZER,
	                 .over = PTHREAD_COND_INITIALIZER,
	                 .left = count,
	                 .err = err};
	for (size_t i = 0; i < count; i++) {
		each[i] = (struct fetch){.io = {.op = HITHER_IO_READ,
		                                .offset = ranges[i].offset,
		                                .len = ranges[i].len,
		                                .done = fetched},
		                         .trip = &t};
		hither_mount_submit(p->mount, &each[i].io);
	}
	pthread_mutex_lock(&t.lock);
	while (t.left)
		pthread_cond_wait(&t.over, &t.lock);
	pthread_mutex_unlock(&t.lock);
	p->round_trips++;
	return t.result;
}

static int fetch_ends(struct probe *p, struct hither_error *err)
{
	uint64_t size = p->source.size_bytes;
	struct hither_range ends[2] = {{0, size < HEAD_BYTES ? size : HEAD_BYTES}};
	bool two = size > HEAD_BYTES + TAIL_BYTES;
	if (two)
		ends[1] = (struct hither_range){size - TAIL_BYTES, TAIL_BYTES};
	return fetch(p, ends, two ? 2 : 1, err);
}

static int fetch_index(struct probe *p, struct hither_error *err)
{
	struct hither_range wanted;
	int r;
	while ((r = hither_media_parse(&p->source, &p->media, &wanted, err)) == -EAGAIN) {
		if (p->round_trips == MOST_TRIPS)
			return hither_fail(err, -E2BIG,
			                   "%s: its index is in too many places to follow",
			                   p->name);
		r = fetch(p, &wanted, 1, err);
		if (r)
			return r;
	}
	return r ? hither_error_prefix(err, "%s", p->name) : 0;
}

static bool is_local(struct probe *p, const struct hither_media_piece *piece)
{
	uint32_t kind;
	return hither_mount_extent(p->mount, piece->offset, piece->len, &kind) == piece->len &&
	       (kind & HITHER_EXTENT_LOCAL);
}

/* The pieces that are played first, of every track, as far as they are not here. */
static int fetch_first(struct probe *p, struct hither_error *err)
{
	struct hither_range ranges[MOST_AT_ONCE];
	size_t count = 0;
	for (size_t i = 0; i < p->media.piece_count && count < MOST_AT_ONCE; i++) {
		const struct hither_media_piece *piece = &p->media.pieces[i];
		if (piece->time_us > FIRST_US)
			break;
		if (!is_local(p, piece))
			ranges[count++] = (struct hither_range){piece->offset, piece->len};
	}
	return count ? fetch(p, ranges, count, err) : 0;
}

static int look(struct probe *p, struct hither_error *err)
{
	struct hither_mount_stats stats;
	uint64_t began = now_ns();
	p->source = (struct hither_media_source){hither_mount_size(p->mount), peek};
	bool found = false;
	int r = p->source.size_bytes ? fetch_ends(p, err)
	                             : hither_fail(err, -ENODATA, "%s is empty", p->name);
	if (!r)
		r = fetch_index(p, err);
	if (r == -ENOTSUP) { /* none that has an index */
		streams_find(&p->streams, p->mount);
		found = p->streams.count > 0;
	}
	uint8_t head[64];
	uint64_t len = p->source.size_bytes < sizeof head ? p->source.size_bytes : sizeof head;
	if (r == -ENOTSUP && !found && p->streams.looked &&
	    !(peek(&p->source, head, len, 0) || hither_media_recognise(head, len)))
		return stream_refuse(p->name, err);
	if (found) {
		r = 0;
		*err = (struct hither_error){0};
		p->media.format = p->streams.format;
		p->media.duration_us = p->streams.duration_us;
	}
	if (!r)
		r = fetch_first(p, err);
	p->first_ns = now_ns() - began;
	hither_mount_stats(p->mount, &stats);
	p->first_bytes = stats.local_bytes;
	if (!r && !found)
		streams_find(&p->streams, p->mount);
	return r;
}

/* --- showing --- */

static const char *where(const struct probe *p)
{
	const struct hither_media *m = &p->media;
	uint64_t at = m->index_count ? m->index[0].offset : 0;
	return m->fragmented                        ? "in fragments"
	       : !m->index_count                    ? "none: its bytes tell"
	       : at < p->source.size_bytes / 10     ? "at the front"
	       : at > p->source.size_bytes / 10 * 9 ? "at the end"
	                                            : "in the middle";
}

static void show_text(const struct probe *p)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];
	printf("%s\n  format       %s, %s, %s\n", p->shown_url, p->media.format,
	       units_format_seconds(a, p->media.duration_us / 1000000),
	       units_format_size(b, p->source.size_bytes));
	for (size_t i = 0; i < p->streams.count; i++)
		printf("  stream %zu     %s\n", i, p->streams.text[i]);
	printf("  index        %s", where(p));
	for (size_t i = 0; i < p->media.index_count; i++)
		printf("%s %s at %llu", i ? "," : ":", units_format_size(a, p->media.index[i].len),
		       (unsigned long long)p->media.index[i].offset);
	printf("\n  first frame  %u round trip%s and %s, once connected; it took %.0f + %.0f ms\n",
	       p->round_trips, p->round_trips == 1 ? "" : "s", units_format_size(a, p->first_bytes),
	       (double)p->open_ns / 1e6, (double)p->first_ns / 1e6);
}

static int show_json(const struct probe *p)
{
	AUTO_JSON struct json j = {0};
	json_object(&j, NULL);
	json_string(&j, "url", p->shown_url);
	json_string(&j, "format", p->media.format);
	json_uint(&j, "size_bytes", p->source.size_bytes);
	json_uint(&j, "duration_us", p->media.duration_us);
	json_bool(&j, "fragmented", p->media.fragmented);
	json_array(&j, "streams");
	for (size_t i = 0; i < p->streams.count; i++)
		json_string(&j, NULL, p->streams.text[i]);
	json_end_array(&j);
	json_string(&j, "index_place", where(p));
	json_array(&j, "index");
	for (size_t i = 0; i < p->media.index_count; i++) {
		json_object(&j, NULL);
		json_uint(&j, "offset", p->media.index[i].offset);
		json_uint(&j, "len", p->media.index[i].len);
		json_end_object(&j);
	}
	json_end_array(&j);
	json_uint(&j, "round_trips", p->round_trips);
	json_uint(&j, "first_bytes", p->first_bytes);
	json_uint(&j, "open_ns", p->open_ns);
	json_uint(&j, "first_ns", p->first_ns);
	json_end_object(&j);
	if (j.failed)
		return fail_with(EXIT_FAILED, "no memory");
	puts(j.text);
	return EXIT_DONE;
}

static int probe(struct probe *p, struct settings *s)
{
	struct hither_error err = {0};
	uint64_t began = now_ns();
	int r = source_open(s, false, &p->mount, &err);
	p->open_ns = now_ns() - began;
	if (!r)
		r = look(p, &err);
	int code = r         ? fail_with(EXIT_FAILED, "%s", err.message)
	           : s->json ? show_json(p)
	                     : (show_text(p), EXIT_DONE);
	hither_media_finish(&p->media);
	streams_finish(&p->streams);
	hither_mount_close(p->mount, NULL);
	return code;
}

static int run(struct settings *s, char **args)
{
	struct probe p = {0};
	int code = stream_apply("probe", stream_of(s), args[0]);
	if (code >= 0)
		return code;
	options_hide(args[0]);
	/* Cold, and nothing but what is asked for. */
	s->mount.cache_dir = NULL;
	s->mount.order = "none";
	p.shown_url = url_redact(s->url);
	p.name = url_file_name(s->url);
	code = p.shown_url && p.name ? probe(&p, s) : fail_with(EXIT_FAILED, "no memory");
	free(p.shown_url);
	free(p.name);
	return code;
}

const struct command command_probe = {
        .name = "probe",
        .usage = "[OPTIONS] URL",
        .summary = "tell what it is, and what its first frame costs",
        .text = "Tell the streams and duration of URL, where its index is, and how many round\n"
                "trips and bytes the first frame needs.",
        .groups = groups,
        .min_args = 1,
        .max_args = 1,
        .run = run,
};
