/* SPDX-License-Identifier: Apache-2.0 */
#include "streams.h"

#include "util.h"

#include <dlfcn.h>
#include <errno.h>
#include <libavformat/avformat.h>
#include <stdio.h>
#include <string.h>

enum { BUFFER_BYTES = 32 << 10, MOST_PROBED_BYTES = 2 << 20 };

/* The functions of the three libraries that are called; their headers say what they are. */
#define FUNCTIONS(X)                                                                               \
	X(avio_alloc_context)                                                                      \
	X(avio_context_free)                                                                       \
	X(avformat_alloc_context)                                                                  \
	X(avformat_open_input)                                                                     \
	X(avformat_find_stream_info)                                                               \
	X(avformat_close_input)                                                                    \
	X(avcodec_get_name)                                                                        \
	X(av_get_media_type_string)                                                                \
	X(av_dict_get)                                                                             \
	X(av_log_set_level)                                                                        \
	X(av_malloc)                                                                               \
	X(av_free)

#define DECLARE(name) __typeof__(name) *name;
struct av {
	FUNCTIONS(DECLARE)
};

struct reader {
	struct hither_mount *mount;
	uint64_t at;
};

/* Never unloaded: libraries of this kind leave threads and handlers behind. */
static bool load(struct av *av)
{
	char name[32];
	snprintf(name, sizeof name, "libavformat.so.%d", LIBAVFORMAT_VERSION_MAJOR);
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return false;
#define LOOK_UP(name)                                                                              \
	*(void **)&av->name = dlsym(library, #name); /* finds those of its dependencies as well */ \
	if (!av->name)                                                                             \
		return false;
	FUNCTIONS(LOOK_UP)
	return true;
}

static int read_packet(void *user, uint8_t *buf, int size)
{
	struct reader *r = user;
	uint64_t left = hither_mount_size(r->mount) - r->at;
	int len = left < (uint64_t)size ? (int)left : size;
	if (len == 0)
		return AVERROR_EOF;
	int result = hither_mount_read_at(r->mount, buf, (size_t)len, r->at, NULL);
	if (result)
		return AVERROR(-result);
	r->at += (uint64_t)len;
	return len;
}

static int64_t seek(void *user, int64_t offset, int whence)
{
	struct reader *r = user;
	int64_t size = (int64_t)hither_mount_size(r->mount);
	if (whence & AVSEEK_SIZE)
		return size;
	whence &= ~AVSEEK_FORCE;
	int64_t from = whence == SEEK_CUR ? (int64_t)r->at : whence == SEEK_END ? size : 0;
	if (offset < -from || offset > size - from)
		return AVERROR(EINVAL);
	r->at = (uint64_t)(from + offset);
	return from + offset;
}

static char *describe(const struct av *av, const AVStream *s)
{
	const AVCodecParameters *c = s->codecpar;
	const AVDictionaryEntry *language = av->av_dict_get(s->metadata, "language", NULL, 0);
	const char *kind = av->av_get_media_type_string(c->codec_type);
	char text[160], more[64] = "";
	if (c->codec_type == AVMEDIA_TYPE_VIDEO)
		snprintf(more, sizeof more, ", %dx%d, %.4g fps", c->width, c->height,
		         s->avg_frame_rate.den ? av_q2d(s->avg_frame_rate) : 0.0);
	else if (c->codec_type == AVMEDIA_TYPE_AUDIO)
		snprintf(more, sizeof more, ", %d Hz", c->sample_rate);
	bool known = language && strcmp(language->value, "und");
	snprintf(text, sizeof text, "%s %s%s%s%.16s", kind ? kind : "other",
	         av->avcodec_get_name(c->codec_id), more, known ? ", " : "",
	         known ? language->value : "");
	return strdup(text);
}

static void list(const struct av *av, AVFormatContext *f, struct streams *out)
{
	snprintf(out->format, sizeof out->format, "%s", f->iformat->name);
	if (f->duration > 0)
		out->duration_us = (uint64_t)f->duration / (AV_TIME_BASE / 1000000);
	for (unsigned i = 0; i < f->nb_streams && out->count < STREAMS_MOST; i++) {
		char *text = describe(av, f->streams[i]);
		if (text)
			out->text[out->count++] = text;
	}
}

void streams_find(struct streams *out, struct hither_mount *mount)
{
	struct av av;
	struct reader reader = {mount, 0};
	*out = (struct streams){0};
	if (!load(&av))
		return;
	out->looked = true;
	av.av_log_set_level(AV_LOG_QUIET);
	AVFormatContext *f = av.avformat_alloc_context();
	uint8_t *buffer = av.av_malloc(BUFFER_BYTES);
	AVIOContext *io = buffer ? av.avio_alloc_context(buffer, BUFFER_BYTES, 0, &reader,
	                                                 read_packet, NULL, seek)
	                         : NULL;
	if (f && io) {
		f->pb = io;
		f->probesize = MOST_PROBED_BYTES;
		/* On failure the context is freed and f becomes NULL. */
		if (av.avformat_open_input(&f, "", NULL, NULL) == 0 &&
		    av.avformat_find_stream_info(f, NULL) >= 0)
			list(&av, f, out);
	}
	av.avformat_close_input(&f);
	if (io)
		av.av_free(io->buffer);
	else
		av.av_free(buffer);
	av.avio_context_free(&io);
}

void streams_finish(struct streams *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->text[i]);
	s->count = 0;
}
