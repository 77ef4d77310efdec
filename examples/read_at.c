/* SPDX-License-Identifier: Apache-2.0 */
/* Any function that reads at an offset, as memory: here pread of a file. Prints its last byte. */
#include <fcntl.h>
#include <hither/slice.h>
#include <stdio.h>
#include <stdlib.h>
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

static int file_read_at(void *user, void *buf, size_t len, uint64_t offset)
{
	return pread(*(int *)user, buf, len, (off_t)offset) == (ssize_t)len ? 0 : -5;
}

int main(int argc, char **argv)
{
	static const struct hither_backend_ops ops = {
	        .name = "read_at", .read = reader_read, .close = reader_close};
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	if (fd < 0)
		return perror(argc > 1 ? argv[1] : "which file?"), 1;
	struct reader *r = calloc(1, sizeof *r);
	*r = (struct reader){.read_at = file_read_at, .user = &fd};
	r->base = (struct hither_backend){.ops = &ops,
	                                  .size_bytes = (uint64_t)lseek(fd, 0, SEEK_END),
	                                  .flags = HITHER_BACKEND_LOCAL,
	                                  .align_bytes = 1,
	                                  .parallel = 4};
	struct hither_error err = {0};
	struct hither_mount_options options = {
	        .direct = true}; /* nothing is kept but what is mapped */
	struct hither_slice_options slice_options = {0};
	struct hither_mount *m;
	struct hither_slice *s;
	if (hither_mount_backend(&r->base, "read_at", &options, &m, &err) ||
	    hither_slice_open(m, &slice_options, &s, &err))
		return fprintf(stderr, "%s\n", err.message), 1;
	printf("%u\n", ((unsigned char *)hither_slice_data(s))[hither_slice_size(s) - 1]);
	return hither_slice_close(s, &err) || hither_mount_close(m, &err);
}
