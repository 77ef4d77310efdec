/* SPDX-License-Identifier: Apache-2.0 */
/* A backend of one's own: a terabyte that is computed as it is read. Prints one byte of it. */
#include <hither/mount.h>
#include <stdio.h>
#include <stdlib.h>

static int squares_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct hither_sink *sink, struct hither_error *err)
{
	unsigned char buf[4096];
	for (int r = 0; len > 0; r = 0) {
		size_t n = len < sizeof buf ? len : sizeof buf;
		for (size_t i = 0; i < n; i++)
			buf[i] = (unsigned char)((offset + i) * (offset + i));
		if ((r = sink->take(sink, buf, n)))
			return r;
		offset += n, len -= n;
	}
	return 0;
}

static void squares_close(struct hither_backend *b)
{
	free(b);
}

int main(int argc, char **argv)
{
	static const struct hither_backend_ops ops = {
	        .name = "squares", .read = squares_read, .close = squares_close};
	struct hither_backend *b = calloc(1, sizeof *b);
	*b = (struct hither_backend){
	        .ops = &ops, .size_bytes = UINT64_C(1) << 40, .align_bytes = 1, .parallel = 8};
	struct hither_error err = {0};
	struct hither_mount_options options = {.pull_off = true};
	struct hither_mount *m;
	unsigned char byte;
	if (hither_mount_backend(b, "squares", &options, &m, &err) ||
	    hither_mount_read_at(m, &byte, 1, argc > 1 ? strtoull(argv[1], NULL, 10) : 0, &err))
		return fprintf(stderr, "%s\n", err.message), 1;
	printf("%u\n", byte);
	return hither_mount_close(m, &err) != 0;
}
