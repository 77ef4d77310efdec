/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode a video that lies elsewhere with libavformat, without a mount point: an AVIO context over
 * a mount of this process, which knows the container and pulls what will be read next.
 *
 * usage: avio URL [SECONDS]      prints the size and the mean luminance of the frame at SECONDS
 * build: cc avio.c $(pkg-config --cflags --libs hither libavformat libavcodec libavutil)
 */
#include <hither/mount.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFER_BYTES = 32768 };

struct reader {
	struct hither_mount *mount;
	uint64_t at;
};

static int read_packet(void *user, uint8_t *buf, int size)
{
	struct reader *r = user;
	struct hither_error err = {0};
	uint64_t left = hither_mount_size(r->mount) - r->at;
	int len = left < (uint64_t)size ? (int)left : size;
	if (len == 0)
		return AVERROR_EOF;
	if (hither_mount_read_at(r->mount, buf, (size_t)len, r->at, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return AVERROR(-err.code);
	}
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
	int64_t to = offset + (whence == SEEK_CUR ? (int64_t)r->at : whence == SEEK_END ? size : 0);
	if (to < 0 || to > size)
		return AVERROR(EINVAL);
	r->at = (uint64_t)to;
	return to;
}

static void print_frame(const AVFrame *frame)
{
	uint64_t sum = 0;
	for (int y = 0; y < frame->height; y++)
		for (int x = 0; x < frame->width; x++)
			sum += frame->data[0][y * frame->linesize[0] + x];
	printf("%dx%d, luminance %llu\n", frame->width, frame->height,
	       (unsigned long long)(sum / ((uint64_t)frame->width * (uint64_t)frame->height)));
}

/* The first frame that is not before `target`, in the stream's time base. 0, or an AVERROR. */
static int decode(AVFormatContext *f, int stream, AVCodecContext *codec, int64_t target)
{
	AVPacket *packet = av_packet_alloc();
	AVFrame *frame = av_frame_alloc();
	int r = packet && frame ? 0 : AVERROR(ENOMEM);
	while (r >= 0) {
		r = avcodec_receive_frame(codec, frame);
		if (r >= 0 && frame->best_effort_timestamp >= target) {
			print_frame(frame);
			break;
		}
		if (r != AVERROR(EAGAIN))
			continue;
		r = av_read_frame(f, packet);
		if (r >= 0 && packet->stream_index == stream)
			r = avcodec_send_packet(codec, packet);
		else if (r == AVERROR_EOF)
			r = avcodec_send_packet(codec, NULL);
		av_packet_unref(packet);
	}
	av_frame_free(&frame);
	av_packet_free(&packet);
	return r;
}

static int show(AVFormatContext *f, double seconds)
{
	const AVCodec *decoder;
	int r = avformat_find_stream_info(f, NULL);
	int stream = r < 0 ? r : av_find_best_stream(f, AVMEDIA_TYPE_VIDEO, -1, -1, &decoder, 0);
	if (stream < 0)
		return stream;
	AVStream *s = f->streams[stream];
	int64_t target = (int64_t)(seconds / av_q2d(s->time_base));
	if (s->start_time != AV_NOPTS_VALUE)
		target += s->start_time;
	AVCodecContext *codec = avcodec_alloc_context3(decoder);
	r = codec ? avcodec_parameters_to_context(codec, s->codecpar) : AVERROR(ENOMEM);
	if (r >= 0)
		r = avcodec_open2(codec, decoder, NULL);
	if (r >= 0 && seconds > 0)
		r = av_seek_frame(f, stream, target, AVSEEK_FLAG_BACKWARD);
	if (r >= 0)
		r = decode(f, stream, codec, target);
	avcodec_free_context(&codec);
	return r;
}

int main(int argc, char **argv)
{
	struct hither_error err = {0};
	struct hither_mount_options options = {.pull_off = true};
	struct reader reader = {0};
	if (argc < 2)
		return fprintf(stderr, "usage: avio URL [SECONDS]\n"), 2;
	if (hither_mount_open(argv[1], &options, &reader.mount, &err))
		return fprintf(stderr, "%s\n", err.message), 1;
	AVFormatContext *f = avformat_alloc_context();
	uint8_t *buffer = av_malloc(BUFFER_BYTES);
	AVIOContext *io =
	        avio_alloc_context(buffer, BUFFER_BYTES, 0, &reader, read_packet, NULL, seek);
	if (!f || !buffer || !io)
		return fprintf(stderr, "no memory\n"), 1;
	f->pb = io;
	int r = avformat_open_input(&f, "", NULL, NULL);
	if (r >= 0)
		r = show(f, argc > 2 ? atof(argv[2]) : 0);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", argv[1], av_err2str(r));
	avformat_close_input(&f);
	av_freep(&io->buffer);
	avio_context_free(&io);
	hither_mount_close(reader.mount, NULL);
	return r < 0;
}
