/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract test over every backend that needs nothing else to run, bare and behind each layer.
 *
 * For the others: HITHER_CONTRACT_URL names a resource to test instead (of a few MiB at most);
 * HITHER_CONTRACT_WRITABLE=1: it may be overwritten; HITHER_CONTRACT_CONTENT: a file with the bytes
 * it must have, if it is not to be written.
 */
#include "check.h"
#include "contract.h"
#include "scratch.h"

#include <fcntl.h>
#include <hither/layer.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum layer { BARE, DELAY, RATE, LOG, FAULT, ALL, LAYER_COUNT };
static const char *const layer_names[] = {"bare", "delay", "rate", "log", "fault", "all layers"};

struct target {
	const char *url;
	uint64_t create_bytes;
	enum layer layer;
	FILE *log;
};

static int wrap(enum layer layer, FILE *log, struct hither_backend **b, struct hither_error *err)
{
	int r = 0;
	if (layer == DELAY || layer == ALL)
		r = hither_layer_delay(*b, 20, b, err);
	if (!r && (layer == RATE || layer == ALL))
		r = hither_layer_rate(*b, UINT64_C(4) << 30, b, err);
	if (!r && (layer == LOG || layer == ALL))
		r = hither_layer_log(*b, log, b, err);
	if (!r && (layer == FAULT || layer == ALL))
		r = hither_layer_fault(*b, b, err);
	return r;
}

static int open_target(void *user, bool writable, struct hither_backend **out,
                       struct hither_error *err)
{
	const struct target *t = user;
	struct hither_backend_options options = {.writable = writable,
	                                         .create_bytes = t->create_bytes};
	struct hither_backend *b = NULL;
	int r = hither_backend_open(t->url, &options, &b, err);
	if (r)
		return r;
	struct hither_backend bare = *b;
	CHECK_EQ(wrap(t->layer, t->log, &b, err), 0);
	CHECK_EQ(b->size_bytes, bare.size_bytes);
	CHECK_EQ(b->align_bytes, bare.align_bytes);
	CHECK_EQ(b->parallel, bare.parallel);
	CHECK_EQ(b->max_request_bytes, bare.max_request_bytes);
	*out = b;
	return 0;
}

static void check_layers(const char *url, uint64_t create_bytes, struct contract_subject subject)
{
	FILE *log = fopen("/dev/null", "w");
	CHECK(log);
	for (int layer = 0; layer < LAYER_COUNT; layer++) {
		struct target t = {url, create_bytes, (enum layer)layer, log};
		char name[PATH_MAX + 32];
		snprintf(name, sizeof name, "%s, %s", url, layer_names[layer]);
		subject.name = name;
		subject.open = open_target;
		subject.user = &t;
		contract_check(&subject);
	}
	fclose(log);
}

/* --- the backends at hand --- */

static void memory(void)
{
	check_layers("memory:300001", 0, (struct contract_subject){.writable = true});
	check_layers("memory:0", 0, (struct contract_subject){.writable = true});
}

static void file(const char *folder)
{
	char path[PATH_MAX + 8], url[PATH_MAX + 16];
	struct contract_subject kept = {.writable = true, .keeps = true};
	snprintf(url, sizeof url, "file://%s/file", folder);
	check_layers(url, 700001, kept);
	snprintf(path, sizeof path, "%s/empty", folder);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0);
	close(fd);
	check_layers(path, 0, kept);
}

static void directory(const char *folder)
{
	char url[PATH_MAX + 64];
	struct contract_subject kept = {.writable = true, .keeps = true};
	snprintf(url, sizeof url, "directory://%s/small?chunk=4096&size=100001", folder);
	check_layers(url, 0, kept);
	snprintf(url, sizeof url, "directory://%s/large?chunk=64K", folder);
	check_layers(url, 300001, kept);
	snprintf(url, sizeof url, "directory://%s/even?size=256K", folder);
	check_layers(url, 0, kept);
	snprintf(url, sizeof url, "directory://%s/none?size=0", folder);
	check_layers(url, 0, kept);
}

static void named_by_the_environment(const char *url)
{
	const char *writable = getenv("HITHER_CONTRACT_WRITABLE");
	const char *content = getenv("HITHER_CONTRACT_CONTENT");
	struct contract_subject subject = {0};
	subject.writable = subject.keeps = writable && strcmp(writable, "1") == 0;
	if (content && !subject.writable) {
		struct stat st;
		int fd = open(content, O_RDONLY);
		CHECK(fd >= 0 && fstat(fd, &st) == 0);
		subject.content_len = (size_t)st.st_size;
		/* One byte more: an empty file cannot be mapped. */
		subject.content =
		        mmap(NULL, subject.content_len + 1, PROT_READ, MAP_PRIVATE, fd, 0);
		CHECK(subject.content != MAP_FAILED);
		close(fd);
	}
	check_layers(url, 0, subject);
}

int main(void)
{
	const char *url = getenv("HITHER_CONTRACT_URL");
	if (url && *url) {
		named_by_the_environment(url);
		return 0;
	}
	char folder[PATH_MAX];
	scratch_make(folder);
	memory();
	file(folder);
	directory(folder);
	scratch_remove(folder);
	return 0;
}
