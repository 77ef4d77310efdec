/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of reads: in which order they are begun and delivered, and how reads end. */
#include "check.h"
#include "tree/spread.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { PART = 100, COUNT = 200, LEN = PART * COUNT, GAP = 30 };

/* A server whose answers the test gives, one by one. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t news;
	uint64_t asked[4 * COUNT]; /* `from` of each part, in the order of asking */
	unsigned count, under_way, most;
	uint64_t first_len, longest; /* of parts */
	bool open;                   /* answers all at once */
	uint64_t allowed[4];         /* else these: each plus 1 */
	uint64_t bad;                /* this one, plus 1, fails */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};

static char byte_at(uint64_t offset)
{
	return (char)(offset * 31 + offset / 97);
}

static bool may_answer(uint64_t from)
{
	bool may = server.open;
	for (unsigned i = 0; i < 4; i++)
		may = may || server.allowed[i] == from + 1;
	return may;
}

static int fetch(void *user, const struct spread_run *part, char *buf, struct hither_error *e)
{
	CHECK(user == &server);
	pthread_mutex_lock(&server.lock);
	if (!server.count)
		server.first_len = part->len;
	if (part->len > server.longest)
		server.longest = part->len;
	server.asked[server.count++] = part->from;
	server.under_way++;
	if (server.under_way > server.most)
		server.most = server.under_way;
	pthread_cond_broadcast(&server.news);
	while (!may_answer(part->from))
		pthread_cond_wait(&server.news, &server.lock);
	server.under_way--;
	pthread_cond_broadcast(&server.news);
	pthread_mutex_unlock(&server.lock);
	if (server.bad == part->from + 1)
		return hither_fail(e, -EIO, "part at %d", (int)part->from);
	for (uint64_t i = 0; i < part->len; i++)
		buf[i] = byte_at(part->from + i);
	return 0;
}

static void begin_server(bool open)
{
	server.count = server.most = server.under_way = 0;
	server.first_len = server.longest = 0;
	server.open = open;
	server.bad = 0;
	memset(server.allowed, 0, sizeof server.allowed);
}

static void answer(unsigned i, uint64_t from)
{
	pthread_mutex_lock(&server.lock);
	server.allowed[i] = from + 1;
	pthread_cond_broadcast(&server.news);
	pthread_mutex_unlock(&server.lock);
}

static void answer_all(void)
{
	pthread_mutex_lock(&server.lock);
	server.open = true;
	pthread_cond_broadcast(&server.news);
	pthread_mutex_unlock(&server.lock);
}

/* Until so many parts were asked for. */
static void wait_asked(unsigned count)
{
	pthread_mutex_lock(&server.lock);
	while (server.count < count)
		pthread_cond_wait(&server.news, &server.lock);
	pthread_mutex_unlock(&server.lock);
}

/* A read by a thread of its own. */
struct reader {
	struct hither_sink sink;
	struct spread *s;
	struct spread_run runs[COUNT];
	uint32_t count;
	char buf[LEN];
	size_t len;
	pthread_t thread;

	pthread_mutex_t lock; /* guards the rest, while it runs */
	pthread_cond_t news;
	size_t taken, held;
	size_t refuse_at; /* the sink ends the read there; 0: nowhere */
	int result;
	struct hither_error err;
};

static int take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct reader *r = (struct reader *)sink;
	pthread_mutex_lock(&r->lock);
	CHECK(!memcmp(buf, r->buf + r->taken, len));
	r->taken += len;
	bool refused = r->refuse_at && r->taken >= r->refuse_at;
	pthread_cond_broadcast(&r->news);
	pthread_mutex_unlock(&r->lock);
	return refused ? -ECANCELED : 0;
}

static const char *big;
static size_t big_taken;

static int take_big(struct hither_sink *sink, const void *buf, size_t len)
{
	CHECK(buf == big + big_taken);
	big_taken += len;
	return 0;
}

static void hold(struct hither_sink *sink, size_t len)
{
	struct reader *r = (struct reader *)sink;
	pthread_mutex_lock(&r->lock);
	r->held += len;
	pthread_cond_broadcast(&r->news);
	pthread_mutex_unlock(&r->lock);
}

static void *read_main(void *arg)
{
	struct reader *r = arg;
	r->result = spread_read(r->s, r->runs, r->count, r->buf, r->len, &r->sink, &r->err);
	return NULL;
}

/* Parts of `from` on; gap bytes behind each. */
static struct reader *start_read(struct spread *s, uint32_t count, uint64_t from, size_t gap)
{
	struct reader *r = calloc(1, sizeof *r);
	CHECK(r);
	r->sink = (struct hither_sink){.take = take, .held = hold};
	r->s = s;
	r->count = count;
	r->len = count * (PART + gap);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->news, NULL);
	for (uint32_t i = 0; i < count; i++)
		r->runs[i] = (struct spread_run){
		        .from = from + i * PART, .len = PART, .at = i * (PART + gap)};
	CHECK_EQ(pthread_create(&r->thread, NULL, read_main, r), 0);
	return r;
}

static void wait_taken(struct reader *r, size_t taken, size_t held)
{
	pthread_mutex_lock(&r->lock);
	while (r->taken < taken || r->held < held)
		pthread_cond_wait(&r->news, &r->lock);
	CHECK(r->taken == taken && r->held == held);
	pthread_mutex_unlock(&r->lock);
}

static void end_read(struct reader *r, int result)
{
	CHECK_EQ(pthread_join(r->thread, NULL), 0);
	CHECK_EQ(r->result, result);
	if (!result)
		CHECK_EQ(r->taken, r->len);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->news);
	free(r);
}

static void parts_are_delivered_in_order_as_they_come(void)
{
	begin_server(false);
	struct spread *s = spread_create(fetch, &server);
	struct reader *r = start_read(s, 4, 0, 0);
	wait_asked(4);
	answer(0, 2 * PART); /* known at once, delivered when what is in front is there */
	wait_taken(r, 0, PART);
	answer(1, 0);
	wait_taken(r, PART, PART);
	answer(2, PART);
	wait_taken(r, 3 * PART, PART);
	answer(3, 3 * PART);
	end_read(r, 0);
	spread_destroy(s);
}

static void what_lies_between_parts_is_delivered_too(void)
{
	begin_server(true);
	struct spread *s = spread_create(fetch, &server);
	struct reader *r = start_read(s, 50, 0, GAP);
	CHECK_EQ(pthread_join(r->thread, NULL), 0);
	CHECK_EQ(r->result, 0);
	CHECK_EQ(r->taken, 50 * (PART + GAP));
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(r->buf[i * (PART + GAP)], byte_at((uint64_t)i * PART));
		CHECK_EQ(r->buf[i * (PART + GAP) + PART], 0);
	}
	free(r);
	spread_destroy(s);
}

/* What was asked for first is begun first, whoever asks; and never too much at a time. */
static void first_come_first_served(void)
{
	begin_server(false);
	struct spread *s = spread_create(fetch, &server);
	struct reader *first = start_read(s, SPREAD_MOST + 20, 0, 0);
	wait_asked(SPREAD_MOST);
	struct reader *second = start_read(s, 10, 1000 * PART, 0);
	CHECK_EQ(server.count, SPREAD_MOST);
	for (unsigned i = 0; i < 4; i++) {
		answer(i, i * PART);
		wait_asked(SPREAD_MOST + i + 1);
		CHECK_EQ(server.asked[SPREAD_MOST + i], (SPREAD_MOST + i) * PART);
	}
	answer_all();
	end_read(first, 0);
	end_read(second, 0);
	CHECK_EQ(server.count, SPREAD_MOST + 30);
	CHECK_EQ(server.most, SPREAD_MOST);
	spread_destroy(s);
}

static void a_part_that_fails_ends_its_read_and_no_other(void)
{
	begin_server(false);
	struct spread *s = spread_create(fetch, &server);
	struct reader *bad = start_read(s, SPREAD_MOST + 20, 0, 0);
	wait_asked(SPREAD_MOST);
	struct reader *good = start_read(s, 10, 1000 * PART, 0);
	server.bad = PART + 1;
	answer(0, 0);
	wait_taken(bad, PART, 0);
	answer_all();
	CHECK_EQ(pthread_join(bad->thread, NULL), 0);
	CHECK_EQ(bad->result, -EIO);
	CHECK(strstr(bad->err.message, "part at 100"));
	CHECK_EQ(bad->taken, PART);
	free(bad);
	end_read(good, 0);
	spread_destroy(s);
}

static void a_sink_that_refuses_ends_it(void)
{
	begin_server(true);
	struct spread *s = spread_create(fetch, &server);
	struct reader *r = calloc(1, sizeof *r);
	r->sink = (struct hither_sink){.take = take};
	r->refuse_at = 1;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->news, NULL);
	for (uint32_t i = 0; i < COUNT; i++)
		r->runs[i] = (struct spread_run){.from = i * PART, .len = PART, .at = i * PART};
	CHECK_EQ(spread_read(s, r->runs, COUNT, r->buf, LEN, &r->sink, &r->err), -ECANCELED);
	CHECK_EQ(server.under_way, 0);
	CHECK(server.count <= COUNT);
	free(r);
	spread_destroy(s);
}

/* Each thread's parts grow as its connection's window does, up to what is asked for. */
static void parts_grow_until_they_are_long_enough(void)
{
	enum { MIB = 1 << 20, MOST = 30 << 10 };
	begin_server(true);
	struct spread *s = spread_create(fetch, &server);
	char *buf = malloc(MIB);
	const struct spread_run run = {.from = 7, .len = MIB};
	struct reader *r = calloc(1, sizeof *r);
	r->sink = (struct hither_sink){.take = take_big, .flight_bytes = MOST};
	big = buf;
	big_taken = 0;
	CHECK_EQ(spread_read(s, &run, 1, buf, MIB, &r->sink, &r->err), 0);
	CHECK_EQ(big_taken, MIB);
	CHECK(server.count >= MIB / MOST && server.count <= MIB / (13 << 10) + 1);
	CHECK_EQ(server.longest <= MOST && server.longest > MOST / 2, 1);
	CHECK_EQ(server.first_len <= 13 << 10, 1);
	for (unsigned i = 0; i < MIB; i++)
		CHECK_EQ(buf[i], byte_at(7 + i));
	/* Files that are short stay whole, and so does all where nobody asks for parts. */
	begin_server(true);
	r->sink.flight_bytes = 0;
	big_taken = 0;
	CHECK_EQ(spread_read(s, &run, 1, buf, MIB, &r->sink, &r->err), 0);
	CHECK(server.count == 1 && big_taken == MIB);
	free(r);
	free(buf);
	spread_destroy(s);
}

int main(void)
{
	RUN(parts_are_delivered_in_order_as_they_come);
	RUN(what_lies_between_parts_is_delivered_too);
	RUN(first_come_first_served);
	RUN(a_part_that_fails_ends_its_read_and_no_other);
	RUN(a_sink_that_refuses_ends_it);
	RUN(parts_grow_until_they_are_long_enough);
	return 0;
}
