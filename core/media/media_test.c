/* SPDX-License-Identifier: Apache-2.0 */
/* Media, made here byte by byte: what the parsers find, and what they do with damaged files. */
#include "check.h"

#include <errno.h>
#include <hither/media.h>
#include <stdint.h>
#include <string.h>

static struct hither_error err;

/* --- a file in memory, part of which may not be here yet --- */

struct file {
	struct hither_media_source source;
	uint8_t bytes[1 << 16];
	uint64_t here; /* so many from the front are */
};

static int read_file(const struct hither_media_source *s, void *buf, size_t len, uint64_t offset)
{
	const struct file *f = (const struct file *)(const void *)s;
	CHECK(offset <= s->size_bytes && len <= s->size_bytes - offset);
	if (offset + len > f->here)
		return -EAGAIN;
	memcpy(buf, f->bytes + offset, len);
	return 0;
}

static uint64_t put(struct file *f, const void *data, size_t len)
{
	CHECK(f->source.size_bytes + len <= sizeof f->bytes);
	memcpy(f->bytes + f->source.size_bytes, data, len);
	f->source.size_bytes += len;
	f->here = f->source.size_bytes;
	f->source.read = read_file;
	return f->source.size_bytes - len;
}

static void be32_at(struct file *f, uint64_t at, uint64_t v)
{
	for (int i = 0; i < 4; i++)
		f->bytes[at + (uint64_t)i] = (uint8_t)(v >> (24 - 8 * i));
}

static void be32(struct file *f, uint64_t v)
{
	be32_at(f, put(f, "\0\0\0", 4), v);
}

static uint64_t begin(struct file *f, const char *type)
{
	uint64_t at = f->source.size_bytes;
	be32(f, 0);
	put(f, type, 4);
	return at;
}

static void end(struct file *f, uint64_t at)
{
	be32_at(f, at, f->source.size_bytes - at);
}

static void table(struct file *f, const char *type, const uint32_t *values, size_t count,
                  size_t entries)
{
	uint64_t at = begin(f, type);
	be32(f, 0);
	be32(f, entries);
	for (size_t i = 0; i < count; i++)
		be32(f, values[i]);
	end(f, at);
}

/* A track with four chunks of two samples of 100 bytes, a second each; every other one is a key. */
static void put_track(struct file *f, const char *handler, const uint32_t offsets[4], bool wide)
{
	uint64_t trak = begin(f, "trak"), mdia = begin(f, "mdia"), at = begin(f, "mdhd");
	for (int i = 0; i < 6; i++)
		be32(f, i == 3 ? 1000 : 0);
	end(f, at);
	at = begin(f, "hdlr");
	be32(f, 0);
	be32(f, 0);
	put(f, handler, 4);
	end(f, at);
	uint64_t minf = begin(f, "minf"), stbl = begin(f, "stbl");
	table(f, "stts", (const uint32_t[]){8, 1000}, 2, 1);
	table(f, "stsc", (const uint32_t[]){1, 2, 1}, 3, 1);
	table(f, "stss", (const uint32_t[]){1, 3, 5, 7}, 4, 4);
	at = begin(f, "stsz");
	be32(f, 0);
	be32(f, 0);
	be32(f, 8);
	for (int i = 0; i < 8; i++)
		be32(f, 100);
	end(f, at);
	const uint32_t both[] = {0, offsets[0], 0, offsets[1], 0, offsets[2], 0, offsets[3]};
	if (wide)
		table(f, "co64", both, 8, 4);
	else
		table(f, "stco", offsets, 4, 4);
	end(f, stbl);
	end(f, minf);
	end(f, mdia);
	end(f, trak);
}

enum { MDAT = 16 };

/* ftyp, mdat with 1600 bytes of two tracks that take turns, moov. */
static uint64_t make_mp4(struct file *f, bool wide)
{
	*f = (struct file){0};
	uint64_t at = begin(f, "ftyp"), moov;
	put(f, "isom\0\0\0\0", 8);
	end(f, at);
	at = begin(f, "mdat");
	for (uint32_t i = 0; i < 400; i++)
		be32(f, i);
	end(f, at);
	moov = begin(f, "moov");
	put_track(f, "vide", (const uint32_t[]){24, 424, 824, 1224}, wide);
	put_track(f, "soun", (const uint32_t[]){224, 624, 1024, 1424}, wide);
	end(f, moov);
	return moov;
}

static void an_mp4_is_laid_out_by_time(void)
{
	static struct file f;
	struct hither_media m;
	struct hither_range wanted;
	uint64_t moov = make_mp4(&f, false), time_us;
	CHECK_OK(hither_media_parse(&f.source, &m, &wanted, &err));
	CHECK(strcmp(m.format, "mp4") == 0 && m.index_count == 1);
	CHECK_EQ(m.index[0].offset, moov);
	CHECK_EQ(m.duration_us, 8000000);
	CHECK_EQ(m.piece_count, 16); /* of a sample each: a second is longer than a piece */
	CHECK(m.pieces[0].flags & HITHER_MEDIA_KEY);
	for (size_t i = 1; i < m.piece_count; i++)
		CHECK(m.pieces[i].time_us >= m.pieces[i - 1].time_us);
	CHECK(hither_media_time_of(&m, 1224 + 50, &time_us));
	CHECK_EQ(time_us, 6500000);
	CHECK(!hither_media_time_of(&m, 10, &time_us));
	CHECK(!hither_media_time_of(&m, moov + 10, &time_us));
	size_t at = hither_media_at_time(&m, 4100000);
	CHECK_EQ(m.pieces[at].time_us, 4000000);
	CHECK_EQ(m.pieces[at].offset, 824);
	CHECK_EQ(hither_media_at_time(&m, 99000000), 16);
	at = hither_media_key_at(&m, 2999999);
	CHECK(m.pieces[at].flags & HITHER_MEDIA_KEY && m.pieces[at].time_us == 2000000);
	at = hither_media_key_at(&m, 4000000);
	CHECK_EQ(m.pieces[at].time_us, 4000000);
	hither_media_finish(&m);
}

static void what_is_not_here_is_asked_for(void)
{
	static struct file f;
	struct hither_media m;
	struct hither_range wanted = {0};
	uint64_t moov = make_mp4(&f, false);
	f.here = 0;
	CHECK_EQ(hither_media_parse(&f.source, &m, &wanted, &err), -EAGAIN);
	CHECK_EQ(wanted.offset, 0);
	f.here = 100;
	CHECK_EQ(hither_media_parse(&f.source, &m, &wanted, &err), -EAGAIN);
	CHECK_EQ(wanted.offset, moov);
	CHECK_EQ(wanted.len, f.source.size_bytes - moov); /* all of it, at once */
}

/* Offsets in the layout still lead to the same bytes. */
static void check_layout(const struct file *from, bool wide)
{
	static struct file to;
	struct hither_media_layout l;
	struct hither_media a, b;
	struct hither_range wanted;
	CHECK_OK(hither_media_faststart(&from->source, &l, &wanted, &err));
	CHECK_EQ(l.count, 3);
	to = (struct file){0};
	for (size_t i = 0; i < l.count; i++)
		put(&to,
		    l.segments[i].data ? l.segments[i].data : from->bytes + l.segments[i].offset,
		    l.segments[i].len);
	CHECK_EQ(to.source.size_bytes, l.size_bytes);
	CHECK(memcmp(to.bytes + MDAT + 4, "moov", 4) == 0);
	CHECK_OK(hither_media_parse(&from->source, &a, &wanted, &err));
	CHECK_OK(hither_media_parse(&to.source, &b, &wanted, &err));
	CHECK_EQ(a.piece_count, b.piece_count);
	for (size_t i = 0; i < a.piece_count; i++) {
		CHECK_EQ(a.pieces[i].len, b.pieces[i].len);
		CHECK_EQ(a.pieces[i].time_us, b.pieces[i].time_us);
		CHECK(memcmp(from->bytes + a.pieces[i].offset, to.bytes + b.pieces[i].offset,
		             a.pieces[i].len) == 0);
	}
	hither_media_finish(&a);
	hither_media_finish(&b);
	hither_media_layout_finish(&l);
	CHECK_OK(hither_media_faststart(&to.source, &l, &wanted, &err));
	CHECK_EQ(l.count, 0); /* good as it is */
}

static void a_layout_with_the_index_in_front_has_the_same_samples(void)
{
	static struct file f;
	make_mp4(&f, false);
	check_layout(&f, false);
	make_mp4(&f, true);
	check_layout(&f, true);
}

/* Players read what is in a box that claims more than its parent has, and a moov in a moov. */
static void an_index_that_is_not_understood_stays_where_it_is(void)
{
	static struct file f;
	static uint8_t kept[4096];
	struct hither_media_layout l;
	struct hither_range wanted;
	uint64_t moov = make_mp4(&f, false), last = moov;
	for (uint64_t at = moov; at + 4 <= f.source.size_bytes; at++)
		if (memcmp(f.bytes + at, "trak", 4) == 0)
			last = at - 4;
	be32_at(&f, last, 100000);
	CHECK_OK(hither_media_faststart(&f.source, &l, &wanted, &err));
	CHECK_EQ(l.count, 0);
	moov = make_mp4(&f, false);
	size_t len = f.source.size_bytes - moov;
	memcpy(kept, f.bytes + moov, len);
	f.source.size_bytes = f.here = moov;
	uint64_t outer = begin(&f, "moov");
	put(&f, kept, len);
	end(&f, outer);
	CHECK_OK(hither_media_faststart(&f.source, &l, &wanted, &err));
	CHECK_EQ(l.count, 0);
}

/* Some cameras leave room in front. */
static void a_file_type_behind_free_space_stays_in_front(void)
{
	static struct file f;
	static uint8_t kept[8192];
	struct hither_media_layout l;
	struct hither_range wanted;
	make_mp4(&f, false);
	size_t len = f.source.size_bytes;
	memcpy(kept, f.bytes, len);
	f = (struct file){0};
	end(&f, begin(&f, "free"));
	put(&f, kept, len);
	CHECK(hither_media_recognise(f.bytes, 64));
	CHECK_OK(hither_media_faststart(&f.source, &l, &wanted, &err));
	CHECK_EQ(l.count, 3);
	CHECK_EQ(l.segments[0].len, 8 + MDAT); /* free, ftyp */
	CHECK(l.segments[1].data);
	hither_media_layout_finish(&l);
}

static void a_file_cut_anywhere_is_refused_or_clipped(void)
{
	static struct file f;
	make_mp4(&f, false);
	uint64_t whole = f.source.size_bytes;
	for (uint64_t size = 0; size < whole; size++) {
		struct hither_media m;
		struct hither_media_layout l;
		struct hither_range wanted;
		f.source.size_bytes = f.here = size;
		int r = hither_media_parse(&f.source, &m, &wanted, &err);
		CHECK(r == -EINVAL || r == -ENOTSUP);
		r = hither_media_faststart(&f.source, &l, &wanted, &err);
		CHECK(r == 0 || r == -EINVAL);
		hither_media_layout_finish(&l);
	}
}

static void absurd_numbers_do_no_harm(void)
{
	static struct file f;
	uint64_t moov = make_mp4(&f, true);
	for (uint64_t at = moov; at + 4 <= f.source.size_bytes; at++) {
		uint8_t kept[4];
		struct hither_media m;
		struct hither_media_layout l;
		struct hither_range wanted;
		memcpy(kept, f.bytes + at, 4);
		memset(f.bytes + at, 0xff, 4);
		if (!hither_media_parse(&f.source, &m, &wanted, &err)) {
			for (size_t i = 0; i < m.piece_count; i++)
				CHECK(m.pieces[i].offset + m.pieces[i].len <= f.source.size_bytes);
			hither_media_finish(&m);
		}
		hither_media_faststart(&f.source, &l, &wanted, &err);
		hither_media_layout_finish(&l);
		memcpy(f.bytes + at, kept, 4);
	}
}

static void an_index_of_two_gigabytes_is_refused(void)
{
	static struct file f;
	struct hither_media m;
	struct hither_range wanted;
	uint64_t moov = make_mp4(&f, false);
	be32_at(&f, moov, UINT64_C(1) << 31);
	f.here = f.source.size_bytes;
	f.source.size_bytes = UINT64_C(4) << 30;
	CHECK_EQ(hither_media_parse(&f.source, &m, &wanted, &err), -E2BIG);
}

static void other_files_are_not_media(void)
{
	static struct file f;
	struct hither_media m;
	struct hither_range wanted;
	put(&f, "SQLite format 3\0 and so on, for sixty-four bytes and some more......", 68);
	CHECK_EQ(hither_media_parse(&f.source, &m, &wanted, &err), -ENOTSUP);
	CHECK(!hither_media_recognise(f.bytes, 68));
}

static void a_wav_goes_evenly(void)
{
	static struct file f;
	struct hither_media m;
	struct hither_range wanted;
	static const uint8_t head[] = "RIFF\xff\xff\xff\xff"
	                              "WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x8\0"
	                              "data\x80\x3e\0\0";
	uint64_t time_us;
	f = (struct file){0};
	put(&f, head, 44);
	f.source.size_bytes = f.here = 44 + 16000; /* two seconds of 8000 bytes */
	CHECK_OK(hither_media_parse(&f.source, &m, &wanted, &err));
	CHECK_EQ(m.duration_us, 2000000);
	CHECK(hither_media_time_of(&m, 44 + 8000, &time_us));
	CHECK(time_us >= 990000 && time_us <= 1010000);
	hither_media_finish(&m);
}

int main(void)
{
	RUN(an_mp4_is_laid_out_by_time);
	RUN(what_is_not_here_is_asked_for);
	RUN(a_layout_with_the_index_in_front_has_the_same_samples);
	RUN(an_index_that_is_not_understood_stays_where_it_is);
	RUN(a_file_type_behind_free_space_stays_in_front);
	RUN(a_file_cut_anywhere_is_refused_or_clipped);
	RUN(absurd_numbers_do_no_harm);
	RUN(an_index_of_two_gigabytes_is_refused);
	RUN(other_files_are_not_media);
	RUN(a_wav_goes_evenly);
	return 0;
}
