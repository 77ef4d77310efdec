/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The managed mount with its real threads, for the thread sanitizer: programs that each own a part
 * of the resource read, write and flush it over a slow backend that fails now and then, with a
 * store too small for it all, while others read everywhere.
 *
 * usage: stress_test [ROUNDS]
 */
#include "check.h"
#include "mount/managed.h"

#include <errno.h>
#include <hither/layer.h>
#include <string.h>

enum { OWNERS = 6, PART = 300007, SIZE = OWNERS * PART };

static struct hither_mount *mount;
static char expected[SIZE];
static unsigned rounds = 600;

static uint64_t rnd(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

static void *own(void *arg)
{
	struct hither_error err = {0};
	uint64_t number = (uint64_t)(uintptr_t)arg, rng = number * 77 + 5;
	/* Parts border within a block: their owners share it. */
	char *mine = expected + number * PART, buf[50000];
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t at = rnd(&rng, PART), len = 1 + rnd(&rng, sizeof buf);
		if (len > PART - at)
			len = PART - at;
		switch (rnd(&rng, 5)) {
		case 0:
		case 1:
			memset(buf, (int)rnd(&rng, 256), len);
			CHECK_OK(hither_mount_write_at(mount, buf, len, number * PART + at, &err));
			memcpy(mine + at, buf, len);
			break;
		case 2:
		case 3:
			CHECK_OK(hither_mount_read_at(mount, buf, len, number * PART + at, &err));
			CHECK(memcmp(buf, mine + at, len) == 0);
			break;
		default:
			if (rnd(&rng, 4) == 0)
				CHECK_OK(hither_mount_flush(mount, &err));
		}
	}
	return NULL;
}

static void *look_around(void *arg)
{
	struct hither_error err = {0};
	uint64_t rng = 99 + (uint64_t)(uintptr_t)arg;
	char buf[20000];
	for (unsigned i = 0; i < rounds; i++) {
		CHECK_OK(hither_mount_read_at(mount, buf, sizeof buf, rnd(&rng, SIZE - sizeof buf),
		                              &err));
		struct hither_mount_stats s;
		hither_mount_stats(mount, &s);
		CHECK(s.in_flight <= 16);
		uint8_t picture[10];
		hither_mount_picture(mount, picture, sizeof picture);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		rounds = (unsigned)strtoul(argv[1], NULL, 10);
	struct hither_error err = {0};
	struct hither_backend *memory, *slow, *faulty;
	CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
	uint64_t rng = 4711;
	for (size_t i = 0; i < SIZE; i++)
		expected[i] = (char)rnd(&rng, 256);
	CHECK_OK(hither_backend_write_at(memory, expected, SIZE, 0, &err));
	CHECK_OK(hither_layer_delay(memory, 200, &slow, &err));
	CHECK_OK(hither_layer_fault(slow, &faulty, &err));
	hither_layer_fault_arm(faulty, HITHER_FAULT_READ, 20, 10, -ECONNRESET, 3000);
	hither_layer_fault_arm(faulty, HITHER_FAULT_WRITE, 10, 5, -ETIMEDOUT, 3000);
	hither_layer_fault_arm(faulty, HITHER_FAULT_FLUSH, 3, 1, -EREMOTEIO, 0);
	struct hither_mount_options o = {
	        .workers = 16, .cache_cap_bytes = SIZE / 2, .push_interval_ms = 20};
	CHECK_OK(hither_mount_backend(faulty, "stress", &o, &mount, &err));
	pthread_t owners[OWNERS], other[2];
	for (uintptr_t i = 0; i < OWNERS; i++)
		CHECK_EQ(pthread_create(&owners[i], NULL, own, (void *)i), 0);
	for (uintptr_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&other[i], NULL, look_around, (void *)i), 0);
	for (unsigned i = 0; i < OWNERS; i++)
		pthread_join(owners[i], NULL);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(other[i], NULL);
	CHECK_OK(hither_mount_push(mount, &err));
	static char back[SIZE];
	CHECK_OK(hither_backend_read_at(memory, back, SIZE, 0, &err));
	CHECK(memcmp(back, expected, SIZE) == 0);
	CHECK_OK(hither_mount_close(mount, &err));
	return 0;
}
