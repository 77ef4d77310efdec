/* SPDX-License-Identifier: Apache-2.0 */
/* Replay a corpus: run the fuzzer over every file of the folders given, and over no bytes at all.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void replay_file(const char *path)
{
	long size = 0;
	FILE *f = fopen(path, "rb");
	if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET))
		die(path);
	/* Exactly as large as the input, so that a sanitizer sees one byte too many. */
	uint8_t *data = malloc(size ? (size_t)size : 1);
	if (!data || fread(data, 1, (size_t)size, f) != (size_t)size)
		die(path);
	fclose(f);
	LLVMFuzzerTestOneInput(data, (size_t)size);
	free(data);
}

static int replay_folder(const char *folder)
{
	char path[4096];
	struct dirent *entry;
	int count = 0;
	DIR *dir = opendir(folder);
	if (!dir)
		die(folder);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		/* The name first: if the fuzzer aborts, it is the last one seen. */
		printf("  %s\n", entry->d_name);
		fflush(stdout);
		replay_file(path);
		count++;
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	uint8_t nothing = 0;
	if (argc < 2) {
		fprintf(stderr, "usage: %s FOLDER...\n", argv[0]);
		return 2;
	}
	LLVMFuzzerTestOneInput(&nothing, 0);
	for (int i = 1; i < argc; i++) {
		if (replay_folder(argv[i]) == 0) {
			fprintf(stderr, "%s: no inputs in it\n", argv[i]);
			return 1;
		}
	}
	return 0;
}
