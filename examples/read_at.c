/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any function that reads at an offset, as memory: each page is asked for when it is touched. Here
 * a pattern that is computed, pread() of a file, or an object that hither can reach, say by HTTP.
 * Prints its last byte.
 *
 * usage: read_at pattern | FILE | URL
 */
#include <fcntl.h>
#include <hither/slice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reader { /* a backend that calls read_at */
	struct hither_backend base;
	int (*read_at)(void *user, void *buf, size_t len, uint64_t offset); /* 0 or -errno */
	void *user;
};

static int reader_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_sink *sink, struct hither_error *err)
{
	struct reader *r = (struct reader *)b;
	int result = 0;
	void *buf = malloc(len);
	if (!buf || (result = r->read_at(r->user, buf, len, offset)))
		result = hither_fail(err, buf ? result : -12, "read_at failed");
	else
		result = sink->take(sink, buf, len);
	free(buf);
	return result;
}

static void reader_close(struct hither_backend *b)
{
	free(b);
}

static int pattern_read_at(void *user, void *buf, size_t len, uint64_t offset)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)buf)[i] = (unsigned char)((offset + i) % 251);
	return 0;
}

static int file_read_at(void *user, void *buf, size_t len, uint64_t offset)
{
	return pread(*(int *)user, buf, len, (off_t)offset) == (ssize_t)len ? 0 : -5;
}

static int object_read_at(void *user, void *buf, size_t len, uint64_t offset)
{
	return hither_backend_read_at(user, buf, len, offset, NULL);
}

/* Whose, and how long; 0, or it has said why not. */
static int choose(struct reader *r, const char *what)
{
	static int fd;
	struct hither_error err = {0};
	struct hither_backend_options options = {0};
	struct hither_backend *object;
	r->base.flags = HITHER_BACKEND_LOCAL; /* nothing waits for a network */
	if (!strcmp(what, "pattern")) {
		r->read_at = pattern_read_at;
		r->base.size_bytes = UINT64_C(1) << 30;
	} else if (!strstr(what, ":/")) {
		if ((fd = open(what, O_RDONLY)) < 0)
			return perror(what), 1;
		r->read_at = file_read_at;
		r->user = &fd;
		r->base.size_bytes = (uint64_t)lseek(fd, 0, SEEK_END);
	} else {
		if (hither_backend_open(what, &options, &object, &err))
			return fprintf(stderr, "%s\n", err.message), 1;
		r->read_at = object_read_at;
		r->user = object;
		r->base.size_bytes = object->size_bytes;
		r->base.flags = 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct hither_backend_ops ops = {
	        .name = "read_at", .read = reader_read, .close = reader_close};
	struct reader *r = calloc(1, sizeof *r);
	*r = (struct reader){.base = {.ops = &ops, .align_bytes = 1, .parallel = 4}};
	if (argc != 2)
		return fprintf(stderr, "usage: read_at pattern | FILE | URL\n"), 2;
	if (choose(r, argv[1]))
		return 1;
	struct hither_error err = {0};
	/* Nothing is kept but what is mapped. */
	struct hither_mount_options options = {.direct = true};
	struct hither_slice_options slice_options = {0};
	struct hither_mount *m;
	struct hither_slice *s;
	if (hither_mount_backend(&r->base, "read_at", &options, &m, &err) ||
	    hither_slice_open(m, &slice_options, &s, &err))
		return fprintf(stderr, "%s\n", err.message), 1;
	printf("%u\n", ((unsigned char *)hither_slice_data(s))[hither_slice_size(s) - 1]);
	return hither_slice_close(s, &err) || hither_mount_close(m, &err);
}
