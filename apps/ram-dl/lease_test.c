/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { GRAIN = LEASE_GRAIN, SIZE = 100 * GRAIN };

static char path[] = "/tmp/ram-dl-lease-XXXXXX";
static struct lease a, b; /* as two processes */

static void begin(void)
{
	lease_init(&a, open(path, O_RDWR), SIZE + 5);
	lease_init(&b, open(path, O_RDWR), SIZE);
	CHECK(a.fd >= 0 && b.fd >= 0);
}

static void end(void)
{
	int fds[] = {a.fd, b.fd};
	lease_finish(&a);
	lease_finish(&b);
	close(fds[0]);
	close(fds[1]);
}

static uint64_t take(struct lease *l, uint64_t len)
{
	uint64_t offset = UINT64_MAX;
	CHECK_EQ(lease_take(l, len, 1, &offset), 0);
	return offset;
}

static void areas_do_not_overlap(void)
{
	uint64_t offset;
	begin();
	CHECK_EQ(take(&a, 10 * GRAIN), 90 * GRAIN);
	CHECK_EQ(take(&b, 1), 89 * GRAIN);
	CHECK_EQ(take(&a, 3 * GRAIN), 86 * GRAIN);
	CHECK_EQ(take(&b, 80 * GRAIN), 6 * GRAIN);
	CHECK_EQ(lease_take(&a, 7 * GRAIN, 1, &offset), -ENOSPC);
	CHECK_EQ(lease_longest(&a), 6 * GRAIN);
	CHECK_EQ(take(&a, 6 * GRAIN), 0);
	CHECK_EQ(lease_take(&b, 1, 1, &offset), -ENOSPC);
	CHECK_EQ(lease_take_growing(&b, 1, &offset), -ENOSPC);
	CHECK_EQ(lease_take(&b, UINT64_MAX, 1, &offset), -ENOSPC);
	CHECK_EQ(lease_longest(&b), 0);
	CHECK_EQ(a.taken_bytes + b.taken_bytes, SIZE);
	end();
}

static void what_is_given_back_can_be_taken(void)
{
	begin();
	uint64_t at = take(&a, 10 * GRAIN);
	CHECK_EQ(take(&a, 5 * GRAIN), at - 5 * GRAIN);
	CHECK_EQ(lease_give(&a, at + 3 * GRAIN, 2 * GRAIN), 0); /* in the middle */
	CHECK_EQ(lease_length(&a, at), 3 * GRAIN);
	CHECK_EQ(lease_length(&a, at + 3 * GRAIN), 0);
	CHECK_EQ(lease_length(&a, at + 6 * GRAIN), 4 * GRAIN);
	CHECK_EQ(a.taken_bytes, 13 * GRAIN);
	CHECK_EQ(take(&b, 2 * GRAIN), at + 3 * GRAIN);
	CHECK_EQ(lease_give(&a, at + 2 * GRAIN, 2 * GRAIN), -EINVAL);
	CHECK_EQ(lease_give(&a, at, 3 * GRAIN), 0);
	CHECK_EQ(lease_give(&a, at, GRAIN), -EINVAL);
	CHECK_EQ(take(&b, 3 * GRAIN), at);
	end();
}

static void areas_grow_and_shrink_where_they_are(void)
{
	begin();
	uint64_t at = take(&a, 4 * GRAIN), front = take(&b, 4 * GRAIN);
	CHECK_EQ(front, at - 4 * GRAIN);
	CHECK(!lease_resize(&b, front, 5 * GRAIN));
	CHECK(lease_resize(&a, at, 2 * GRAIN - 1));
	CHECK_EQ(lease_length(&a, at), 2 * GRAIN);
	CHECK(lease_resize(&a, at, 4 * GRAIN));
	CHECK(!lease_resize(&a, at, 5 * GRAIN));
	CHECK(!lease_resize(&b, front + GRAIN, GRAIN));
	CHECK_EQ(a.taken_bytes + b.taken_bytes, 8 * GRAIN);
	end();
}

/* What grows goes to the front, and then has all there is between that and the others. */
static void what_grows_has_room_to_grow(void)
{
	uint64_t at, other;
	begin();
	take(&a, 4 * GRAIN);
	take(&b, 4 * GRAIN);
	CHECK_EQ(lease_take_growing(&a, 8 * GRAIN, &at), 0);
	CHECK_EQ(at, 0);
	CHECK_EQ(take(&a, 2 * GRAIN), 90 * GRAIN);
	CHECK(lease_resize(&a, at, 80 * GRAIN));
	CHECK(lease_resize(&a, at, 10 * GRAIN));
	/* Another's: behind that, around what both have. */
	CHECK_EQ(lease_take_growing(&b, 8 * GRAIN, &other), 0);
	CHECK_EQ(other, 10 * GRAIN);
	CHECK(!lease_resize(&a, at, 11 * GRAIN));
	CHECK_EQ(lease_longest(&a), 72 * GRAIN);
	CHECK_EQ(lease_take_growing(&a, 72 * GRAIN, &at), 0);
	CHECK_EQ(at, 18 * GRAIN);
	CHECK_EQ(lease_take_growing(&b, GRAIN, &at), -ENOSPC);
	end();
}

static void alignment(void)
{
	uint64_t offset;
	begin();
	take(&a, GRAIN);
	CHECK_EQ(lease_take(&a, GRAIN, 32 * GRAIN, &offset), 0);
	CHECK_EQ(offset, 96 * GRAIN);
	CHECK_EQ(take(&a, GRAIN), 98 * GRAIN); /* the gap behind is used, too */
	CHECK_EQ(lease_take(&b, GRAIN, 32 * GRAIN, &offset), 0);
	CHECK_EQ(offset, 64 * GRAIN);
	end();
}

/* Asked for by pages, kept by grains. */
static void what_was_rounded_up_to_goes_with_the_rest(void)
{
	enum { PAGE = 4096 };
	begin();
	uint64_t at = take(&a, 2 * GRAIN + PAGE);
	CHECK_EQ(lease_reach(&a, at, 2 * GRAIN + PAGE), 3 * GRAIN);
	CHECK_EQ(lease_reach(&a, at + GRAIN, GRAIN + PAGE), 2 * GRAIN);
	CHECK_EQ(lease_reach(&a, at, 2 * GRAIN), 2 * GRAIN); /* one page is still in use */
	CHECK_EQ(lease_reach(&a, at, 9 * GRAIN), 9 * GRAIN);
	CHECK(lease_resize(&a, at, GRAIN + 2 * PAGE));
	CHECK_EQ(lease_reach(&a, at, GRAIN + PAGE), GRAIN + PAGE);
	CHECK_EQ(lease_reach(&a, at, GRAIN + 2 * PAGE), 2 * GRAIN);
	CHECK_EQ(lease_give(&a, at, GRAIN), 0); /* the end is what it was */
	CHECK_EQ(lease_reach(&a, at + GRAIN, 2 * PAGE), GRAIN);
	CHECK_EQ(lease_reach(&a, at, 1), 1); /* not ours any more */
	end();
}

static void what_comes_first_is_nobodys(void)
{
	uint64_t offset;
	begin();
	a.first_bytes = GRAIN;
	CHECK_EQ(lease_take(&a, SIZE, 1, &offset), -ENOSPC);
	CHECK_EQ(lease_longest(&a), SIZE - GRAIN);
	CHECK_EQ(take(&a, SIZE - GRAIN), GRAIN);
	end();
}

static void a_process_that_ends_gives_all_back(void)
{
	begin();
	take(&a, 60 * GRAIN);
	close(a.fd); /* as the kernel does */
	CHECK_EQ(take(&b, SIZE), 0);
	free(a.areas);
	a = (struct lease){.fd = open(path, O_RDWR)};
	end();
}

int main(void)
{
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	close(fd);
	RUN(areas_do_not_overlap);
	RUN(what_is_given_back_can_be_taken);
	RUN(areas_grow_and_shrink_where_they_are);
	RUN(what_grows_has_room_to_grow);
	RUN(alignment);
	RUN(what_was_rounded_up_to_goes_with_the_rest);
	RUN(what_comes_first_is_nobodys);
	RUN(a_process_that_ends_gives_all_back);
	unlink(path);
	return 0;
}
