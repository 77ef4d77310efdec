/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the lines of anything that hither can reach, as if it were an array. */
#include <hither/slice.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct hither_error err = {0};
	struct hither_mount_options options = {0};
	struct hither_slice_options slice_options = {0};
	struct hither_mount *m;
	struct hither_slice *s;
	if (argc != 2 || hither_mount_open(argv[1], &options, &m, &err) ||
	    hither_slice_open(m, &slice_options, &s, &err))
		return fprintf(stderr, "%s\n", argc != 2 ? "usage: slice URL" : err.message), 1;
	const char *bytes = hither_slice_data(s);
	size_t lines = 0;
	for (uint64_t i = 0; i < hither_slice_size(s); i++)
		lines += bytes[i] == '\n';
	printf("%zu\n", lines);
	return hither_slice_close(s, &err) || hither_mount_close(m, &err);
}
