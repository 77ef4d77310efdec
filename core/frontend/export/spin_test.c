/* SPDX-License-Identifier: Apache-2.0 */
/* Which way to wait is chosen, on a made-up clock; and the look itself, on a socket. */
#include "check.h"
#include "frontend/export/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { US = 1000, MS = 1000 * US };

static uint64_t now_ns = 1;

/* Waits of a client that asks again after so long, by the way that is taken. Looks taken. */
static unsigned wait_often(struct export_spin *p, unsigned count, unsigned sleeping_ns,
                           unsigned looking_ns, bool in_vain)
{
	unsigned looks = 0;
	for (unsigned i = 0; i < count; i++) {
		export_spin_note(p, now_ns);
		looks += p->looks;
		p->misses += p->looks && in_vain;
		now_ns += p->looks ? looking_ns : sleeping_ns;
	}
	return looks;
}

static void the_quicker_way_is_kept_to(void)
{
	struct export_spin p = {0};
	CHECK_EQ(wait_often(&p, 64, 60 * US, 35 * US, false), 0);
	wait_often(&p, 64, 60 * US, 35 * US, false);
	unsigned looks = wait_often(&p, 20000, 60 * US, 35 * US, false);
	CHECK(p.chosen && looks > 19000);
	CHECK(looks < 20000); /* the other way is tried now and then */
	/* Others need the processors now. */
	wait_often(&p, 20000, 15 * US, 50 * US, false);
	looks = wait_often(&p, 20000, 15 * US, 50 * US, false);
	CHECK(!p.chosen && looks < 1000 && looks > 0);
}

static void who_takes_its_time_is_not_looked_for(void)
{
	struct export_spin p = {0};
	unsigned looks = wait_often(&p, 20000, 500 * US, 500 * US, true);
	CHECK(!p.chosen && looks < 200);
	/* Now it is one that does nothing else. */
	wait_often(&p, 20000, 60 * US, 35 * US, false);
	CHECK(p.chosen);
	/* And now it hardly comes. */
	wait_often(&p, 100, 20 * MS, 20 * MS, true);
	CHECK_EQ(wait_often(&p, 1000, 20 * MS, 20 * MS, true), 0);
}

static void a_look_does_not_sleep(void)
{
	struct export_awake awake = {.count = 1, .spinners_max = 1};
	struct export_stream s;
	char got[8];
	int pair[2];
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	export_stream_init(&s, pair[0]);
	CHECK_EQ(export_spin(&s, got, sizeof got), -EAGAIN); /* not one that may look */
	s.awake = &awake;
	s.spin.single = s.spin.looks = true;
	CHECK_EQ(export_spin(&s, got, sizeof got), -EAGAIN);
	CHECK_EQ(s.spin.misses, 1);
	CHECK_EQ(write(pair[1], "hello", 5), 5);
	awake.count = 2; /* another connection has something to do */
	CHECK_EQ(export_spin(&s, got, sizeof got), -EAGAIN);
	CHECK_EQ(s.spin.misses, 1);
	awake.count = 1;
	CHECK_EQ(export_spin(&s, got, sizeof got), 5);
	CHECK(!memcmp(got, "hello", 5));
	CHECK_EQ(s.spin.misses, 1);
	close(pair[1]);
	CHECK_EQ(export_spin(&s, got, sizeof got), 0);
	export_stream_finish(&s);
}

int main(void)
{
	alarm(50);
	RUN(the_quicker_way_is_kept_to);
	RUN(who_takes_its_time_is_not_looked_for);
	RUN(a_look_does_not_sleep);
	return 0;
}
