/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "check.h"
#include "contract.h"

#include <errno.h>
#include <hither/layer.h>
#include <pthread.h>
#include <string.h>

enum { GROUP = 64 << 10, SIZE = 3 * GROUP + 1000 };

static struct hither_error err;
static struct hither_backend *memory, *seal;
static char text[SIZE], back[SIZE];

/* Which compression; encrypted or not. */
struct kind {
	enum hither_pack pack;
	bool encrypt;
};
static const struct kind kinds[] = {
        {HITHER_PACK_NONE, false}, {HITHER_PACK_LZ4, false}, {HITHER_PACK_ZSTD, false},
        {HITHER_PACK_NONE, true},  {HITHER_PACK_LZ4, true},  {HITHER_PACK_ZSTD, true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void make(const struct kind *k)
{
	CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
	CHECK_OK(hither_layer_seal(memory, k->pack, k->encrypt, &seal, &err));
	for (size_t i = 0; i < SIZE; i++)
		text[i] = "the same words again "[i % 21];
}

static void what_was_written_is_read(void)
{
	for (int k = 0; k < KINDS; k++) {
		uint64_t seed = 1;
		make(&kinds[k]);
		CHECK_OK(hither_backend_read_at(seal, back, SIZE, 0, &err));
		for (size_t i = 0; i < SIZE; i++)
			CHECK_EQ(back[i], 0);
		CHECK_OK(hither_backend_write_at(seal, text, SIZE, 0, &err));
		CHECK_OK(hither_backend_read_at(seal, back, SIZE, 0, &err));
		CHECK(!memcmp(text, back, SIZE));
		for (size_t i = 0; i < GROUP; i++) { /* what cannot be made smaller */
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			text[GROUP + i] = (char)(seed >> 40);
		}
		CHECK_OK(hither_backend_write_at(seal, text + GROUP, GROUP, GROUP, &err));
		CHECK_OK(hither_backend_write_at(seal, text + 7, 100, 7, &err));
		CHECK_OK(hither_backend_read_at(seal, back, SIZE, 0, &err));
		CHECK(!memcmp(text, back, SIZE));
		CHECK_OK(hither_backend_discard(seal, 0, GROUP + 1, &err));
		CHECK_OK(hither_backend_read_at(seal, back, SIZE, 0, &err));
		CHECK_EQ(back[0], 0);
		CHECK(!memcmp(text + GROUP, back + GROUP, SIZE - GROUP));
		hither_backend_close(seal);
	}
}

static void it_gets_small_and_secret(void)
{
	for (int k = 0; k < KINDS; k++) {
		make(&kinds[k]);
		CHECK_OK(hither_backend_write_at(seal, text, SIZE, 0, &err));
		CHECK_OK(hither_backend_read_at(memory, back, SIZE, 0, &err));
		size_t used = 0;
		for (size_t i = 0; i < GROUP; i++)
			used += back[i] != 0;
		CHECK(kinds[k].pack == HITHER_PACK_NONE || used < GROUP / 50);
		bool readable = memmem(back, SIZE, "the same words", 14) != NULL;
		CHECK_EQ(readable, !kinds[k].encrypt); /* even compressed, once */
		hither_backend_close(seal);
	}
}

static void check_noticed(uint64_t offset)
{
	struct hither_error e = {0};
	CHECK_EQ(hither_backend_read_at(seal, back, 10, offset, &e), -EIO);
	CHECK(strstr(e.message, "not those that were stored"));
}

static void changes_are_noticed(void)
{
	for (int k = 0; k < KINDS; k++) {
		static char old[GROUP];
		char byte;
		make(&kinds[k]);
		CHECK_OK(hither_backend_write_at(seal, text, SIZE, 0, &err));
		CHECK_OK(hither_backend_read_at(memory, old, GROUP, 0, &err));
		CHECK_OK(hither_backend_read_at(memory, &byte, 1, 20, &err));
		byte ^= 1;
		CHECK_OK(hither_backend_write_at(memory, &byte, 1, 20, &err)); /* a bit */
		check_noticed(0);
		text[0] = 'T';
		CHECK_OK(hither_backend_write_at(seal, text, GROUP, 0, &err));
		CHECK_OK(hither_backend_read_at(seal, back, GROUP, 0, &err));
		CHECK(!memcmp(text, back, GROUP));
		CHECK_OK(hither_backend_write_at(memory, old, GROUP, 0, &err)); /* an older state */
		check_noticed(0);
		CHECK_OK(hither_backend_write_at(memory, old, GROUP, GROUP,
		                                 &err)); /* another place's */
		if (kinds[k].encrypt)
			check_noticed(GROUP);
		hither_backend_close(seal);
	}
}

static void *write_own_groups(void *arg)
{
	static char bytes[4][GROUP];
	uintptr_t mine = (uintptr_t)arg;
	for (int i = 0; i < 100; i++) {
		char in[16];
		memset(bytes[mine], i, GROUP);
		CHECK_EQ(hither_backend_write_at(seal, bytes[mine], mine < 3 ? GROUP : 1000,
		                                 mine * GROUP, NULL),
		         0);
		CHECK_EQ(hither_backend_read_at(seal, in, sizeof in, mine * GROUP, NULL), 0);
		CHECK_EQ(in[15], i);
	}
	return NULL;
}

static void many_threads(void)
{
	pthread_t threads[4];
	make(&kinds[KINDS - 1]);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, write_own_groups, (void *)i));
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(threads[i], NULL));
	hither_backend_close(seal);
}

static int open_subject(void *user, bool writable, struct hither_backend **out,
                        struct hither_error *e)
{
	const struct kind *k = user;
	struct hither_backend *b;
	int r = hither_backend_memory_create(SIZE, &b, e);
	if (!r)
		r = hither_layer_seal(b, k->pack, k->encrypt, out, e);
	if (!r && !writable)
		(*out)->flags &= ~(uint32_t)HITHER_BACKEND_WRITABLE;
	return r;
}

static void it_keeps_the_contract(void)
{
	for (int k = 0; k < KINDS; k++)
		contract_check(&(struct contract_subject){.name = "seal",
		                                          .open = open_subject,
		                                          .user = (void *)&kinds[k],
		                                          .writable = true});
}

int main(void)
{
	RUN(what_was_written_is_read);
	RUN(it_gets_small_and_secret);
	RUN(changes_are_noticed);
	RUN(many_threads);
	RUN(it_keeps_the_contract);
	return 0;
}
