/* SPDX-License-Identifier: Apache-2.0 */
/* Serves anything that hither can reach to NBD clients, for ever. */
#include <hither/export.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct hither_error err = {0};
	struct hither_mount_options options = {0};
	struct hither_export_options export_options = {0};
	struct hither_export_volume volume = {0};
	struct hither_export *e;
	if (argc != 3)
		return fprintf(stderr, "usage: export URL HOST:PORT|unix:PATH\n"), 2;
	if (hither_mount_open(argv[1], &options, &volume.mount, &err) ||
	    hither_export_create(&volume, 1, &export_options, &e, &err) ||
	    hither_export_listen(e, argv[2], &err))
		return fprintf(stderr, "%s\n", err.message), 1;
	printf("clients may come to %s\n", argv[2]);
	fflush(stdout);
	if (hither_export_serve(e, &err))
		return fprintf(stderr, "%s\n", err.message), 1;
	hither_export_destroy(e);
	return hither_mount_close(volume.mount, &err) != 0;
}
