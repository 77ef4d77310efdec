/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "claim.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 1 << 20, PID = CLAIM_OFFSET + 40, HOST = CLAIM_OFFSET + 152 };

static struct hither_error err;
static const unsigned char one[CLAIM_ID_BYTES] = "one", two[CLAIM_ID_BYTES] = "two";

static struct hither_backend *server(void)
{
	struct hither_backend *b;
	CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
	return b;
}

static void read_page(struct hither_backend *b, char page[CLAIM_PAGE])
{
	CHECK_OK(hither_backend_read_at(b, page, CLAIM_PAGE, 0, &err));
}

static void change(struct hither_backend *b, uint64_t offset, const void *bytes, size_t len)
{
	CHECK_OK(hither_backend_write_at(b, bytes, len, offset, &err));
}

static void one_at_a_time(void)
{
	char page[CLAIM_PAGE], text[200];
	struct hither_backend *b = server();
	read_page(b, page);
	CHECK(!claim_describe(page, text, sizeof text));
	CHECK_OK(claim_take(b, "run", false, one, &err));
	for (int force = 0; force < 2; force++) {
		CHECK_EQ(claim_take(b, "run", force, two, &err), -EBUSY);
		CHECK(strstr(err.message, "in use by ram-dl run of host "));
		CHECK_EQ(claim_take(b, "swap", force, two, &err), -EBUSY);
	}
	unsigned char witness[CLAIM_WITNESS_BYTES];
	claim_witness(one, witness);
	read_page(b, page);
	CHECK(!memcmp(page + CLAIM_OFFSET, witness, sizeof witness));
	CHECK(claim_describe(page, text, sizeof text));
	snprintf(page, sizeof page, "process %ld, since 20", (long)getpid());
	CHECK(strstr(text, page));
	hither_backend_close(b);
}

/* A process that has ended has said nothing: on this machine that is known, of others it is not. */
static void what_the_dead_left(void)
{
	struct hither_backend *b = server();
	pid_t child = fork();
	if (!child)
		_exit(0);
	int64_t pid = child;
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK_OK(claim_take(b, "run", false, one, &err));
	change(b, PID, &pid, sizeof pid);
	CHECK_OK(claim_take(b, "swap", false, two, &err));
	change(b, PID, &pid, sizeof pid);
	change(b, HOST, "elsewhere", 10);
	CHECK_EQ(claim_take(b, "run", false, one, &err), -EBUSY);
	CHECK(strstr(err.message, "swap of host elsewhere") && strstr(err.message, "--force"));
	CHECK_OK(claim_take(b, "run", true, one, &err));
	hither_backend_close(b);
}

static void what_is_not_ours(void)
{
	struct hither_backend *b = server();
	static const char label[] = "ram-dl";
	change(b, 2000, "somebody's", 10);
	CHECK_EQ(claim_take(b, "run", false, one, &err), -EEXIST);
	CHECK_EQ(claim_take(b, "swap", false, one, &err), -EEXIST);
	/* A swap area of somebody who says nothing: swap may, since it always could. */
	change(b, CLAIM_PAGE - 10, "SWAPSPACE2", 10);
	CHECK_EQ(claim_take(b, "run", false, one, &err), -EEXIST);
	CHECK_OK(claim_take(b, "swap", false, one, &err));
	hither_backend_close(b);

	b = server(); /* one that ram-dl swap has left */
	change(b, CLAIM_PAGE - 10, "SWAPSPACE2", 10);
	change(b, 1052, label, sizeof label);
	CHECK_OK(claim_take(b, "run", false, one, &err));
	hither_backend_close(b);

	b = server(); /* a boot loader */
	change(b, 0, "MZ", 2);
	CHECK_EQ(claim_take(b, "swap", false, one, &err), -EEXIST);
	CHECK_OK(claim_take(b, "swap", true, one, &err));
	char page[CLAIM_PAGE];
	read_page(b, page);
	CHECK_EQ(page[0], 0);
	hither_backend_close(b);
}

static void release(void)
{
	char path[] = "/tmp/ram-dl-claim-XXXXXX", page[CLAIM_PAGE], text[200];
	int fd = mkstemp(path);
	const struct hither_backend_options o = {.writable = true};
	struct hither_backend *b;
	CHECK(fd >= 0 && !ftruncate(fd, SIZE));
	CHECK_OK(hither_backend_open(path, &o, &b, &err));
	CHECK_OK(claim_take(b, "run", false, one, &err));
	hither_backend_close(b);
	claim_release(path, &o, two); /* somebody else's stays */
	CHECK(pread(fd, page, sizeof page, 0) == sizeof page);
	CHECK(claim_describe(page, text, sizeof text));
	claim_release(path, &o, one);
	CHECK(pread(fd, page, sizeof page, 0) == sizeof page);
	CHECK(!claim_describe(page, text, sizeof text));
	CHECK(!page[0] && !memcmp(page, page + 1, sizeof page - 1));
	unlink(path);
	claim_release(path, &o, one); /* gone: no matter */
	close(fd);
}

int main(void)
{
	CHECK_EQ(prctl(PR_SET_NAME, "ram-dl"), 0); /* a process of that name is a user */
	if (access("/etc/machine-id", R_OK))
		SKIP("this machine has no /etc/machine-id");
	RUN(one_at_a_time);
	RUN(what_the_dead_left);
	RUN(what_is_not_ours);
	RUN(release);
	return 0;
}
