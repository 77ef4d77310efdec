/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long and short requests of several clients, many under way, over mounts whose bytes are sent from
 * where they are and over such whose bytes are copied; clients that stop reading. What clients that
 * others wrote get is tested in tests/integration/export_clients.sh.
 */
#include "check.h"
#include "frontend/export/protocol.h"

#include <errno.h>
#include <hither/export.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	SIZE = (24 << 20) + 12345,
	LONGEST = 3 << 20,
	REQUESTS = 40,
};

static struct hither_error err;
static struct hither_mount *mount;
static struct hither_export *export;

/* Bytes that tell their place. */
static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 12) * 7 + (at >> 20));
}

static void begin(struct hither_mount_options options, uint32_t connection_bytes)
{
	struct hither_backend *b;
	uint8_t *bytes = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = byte_at(i);
	CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
	CHECK_OK(hither_backend_write_at(b, bytes, SIZE, 0, &err));
	free(bytes);
	CHECK_OK(hither_mount_backend(b, "test", &options, &mount, &err));
	const struct hither_export_volume volume = {.name = "", .mount = mount};
	const struct hither_export_options eo = {.connection_bytes = connection_bytes};
	CHECK_OK(hither_export_create(&volume, 1, &eo, &export, &err));
}

static void end(void)
{
	hither_export_destroy(export);
	CHECK_OK(hither_mount_close(mount, &err));
}

/* --- a client --- */

struct client {
	int fd;
	bool structured;
	uint64_t offsets[REQUESTS];
	uint32_t lens[REQUESTS];
	bool writes[REQUESTS];
	pthread_t sender;
};

static void get(int fd, void *buf, size_t len)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = read(fd, (char *)buf + done, len - done);
		CHECK(n > 0);
		done += (size_t)n;
	}
}

static void put(int fd, const void *buf, size_t len)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);
		CHECK(n > 0);
		done += (size_t)n;
	}
}

static void send_option(int fd, enum nbd_option option, uint32_t len)
{
	uint8_t bytes[NBD_OPTION_BYTES + 6] = {0};
	nbd_put32(nbd_put32(nbd_put64(bytes, NBD_OPTION_MAGIC), option), len);
	put(fd, bytes, NBD_OPTION_BYTES + len);
}

static void until_ack(int fd)
{
	uint8_t head[NBD_OPTION_REPLY_BYTES], data[64];
	do {
		get(fd, head, sizeof head);
		CHECK(nbd_get32(head + 16) <= sizeof data);
		get(fd, data, nbd_get32(head + 16));
	} while (nbd_get32(head + 12) != NBD_REP_ACK);
}

static void shake_hands(int fd)
{
	uint8_t hello[18], flags[4];
	get(fd, hello, sizeof hello);
	nbd_put32(flags, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	put(fd, flags, sizeof flags);
	send_option(fd, NBD_OPT_STRUCTURED_REPLY, 0);
	until_ack(fd);
	send_option(fd, NBD_OPT_GO, 6); /* the unnamed one, and no questions */
	until_ack(fd);
}

static int connect_one(bool structured)
{
	int pair[2];
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	CHECK_OK(hither_export_connect(export, pair[1], structured ? NULL : "", &err));
	if (structured)
		shake_hands(pair[0]);
	return pair[0];
}

static void send_request(int fd, enum nbd_command command, uint64_t cookie, uint64_t offset,
                         uint32_t len)
{
	uint8_t head[NBD_REQUEST_BYTES], *at = nbd_put32(head, NBD_REQUEST_MAGIC);
	at = nbd_put16(nbd_put16(at, 0), (uint16_t)command);
	nbd_put32(nbd_put64(nbd_put64(at, cookie), offset), len);
	put(fd, head, sizeof head);
}

static void *send_all(void *arg)
{
	struct client *c = arg;
	uint8_t *bytes = malloc(LONGEST);
	for (unsigned i = 0; i < REQUESTS; i++) {
		send_request(c->fd, c->writes[i] ? NBD_CMD_WRITE : NBD_CMD_READ, i, c->offsets[i],
		             c->lens[i]);
		if (!c->writes[i])
			continue;
		for (uint32_t k = 0; k < c->lens[i]; k++)
			bytes[k] = byte_at(c->offsets[i] + k);
		put(c->fd, bytes, c->lens[i]);
	}
	free(bytes);
	return NULL;
}

/* Where the bytes of a reply to request `i` begin, and how many follow (or are zeros, of a hole);
 * whether it is the last. */
static bool next_reply(struct client *c, uint64_t *i, uint64_t *offset, uint32_t *len, bool *hole)
{
	uint8_t head[NBD_CHUNK_BYTES], more[12];
	*hole = false;
	get(c->fd, head, 16);
	*i = nbd_get64(head + 8);
	CHECK(*i < REQUESTS);
	*offset = c->offsets[*i];
	if (nbd_get32(head) == NBD_SIMPLE_REPLY_MAGIC) {
		CHECK_EQ(nbd_get32(head + 4), 0);
		*len = c->writes[*i] ? 0 : c->lens[*i];
		return true;
	}
	CHECK_EQ(nbd_get32(head), NBD_STRUCTURED_REPLY_MAGIC);
	*hole = nbd_get16(head + 6) == NBD_CHUNK_OFFSET_HOLE;
	CHECK(*hole || nbd_get16(head + 6) == NBD_CHUNK_OFFSET_DATA);
	get(c->fd, head + 16, 4);
	get(c->fd, more, *hole ? 12 : 8);
	*offset = nbd_get64(more);
	*len = *hole ? nbd_get32(more + 8) : nbd_get32(head + 16) - 8;
	return nbd_get16(head + 4) & NBD_CHUNK_DONE;
}

static void check_replies(struct client *c)
{
	uint8_t *bytes = malloc(LONGEST);
	uint64_t got[REQUESTS] = {0};
	for (unsigned left = REQUESTS; left;) {
		uint64_t i, offset;
		uint32_t len;
		bool hole, last = next_reply(c, &i, &offset, &len, &hole);
		CHECK(len <= LONGEST);
		if (hole)
			memset(bytes, 0, len);
		else
			get(c->fd, bytes, len);
		for (uint32_t k = 0; k < len; k++)
			CHECK_EQ(bytes[k], byte_at(offset + k));
		got[i] += len;
		if (last)
			CHECK_EQ(got[i], c->writes[i] ? 0 : c->lens[i]);
		left -= last;
	}
	free(bytes);
}

/* Writes put the same bytes where they are, so that it does not matter which is first. */
static void choose(struct client *c, uint64_t seed)
{
	for (unsigned i = 0; i < REQUESTS; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		c->writes[i] = (seed >> 60) % 4 == 0;
		c->lens[i] = 1 + (uint32_t)((seed >> 33) % (i % 2 ? 20000 : LONGEST - 1));
		c->offsets[i] = (seed >> 20) % (SIZE - c->lens[i]);
	}
}

static void *talk(void *arg)
{
	struct client *c = arg;
	CHECK(!pthread_create(&c->sender, NULL, send_all, c));
	check_replies(c);
	pthread_join(c->sender, NULL);
	close(c->fd);
	return NULL;
}

static void several_clients(void)
{
	struct client clients[3];
	pthread_t threads[3];
	for (unsigned i = 0; i < 3; i++) {
		clients[i] = (struct client){.fd = connect_one(i > 0)};
		choose(&clients[i], 77 + i);
	}
	for (unsigned i = 0; i < 3; i++)
		CHECK(!pthread_create(&threads[i], NULL, talk, &clients[i]));
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

static const struct hither_mount_options local = {.push_dirty_bytes = UINT64_MAX / 2,
                                                  .push_interval_ms = 3600000};

static void from_where_it_is(void)
{
	begin(local, 0);
	several_clients();
	end();
}

static void out_of_a_store_that_loses_bytes(void)
{
	struct hither_mount_options options = local;
	options.resident_bytes = 8 << 20;
	begin(options, 0);
	several_clients();
	end();
}

static void through_a_direct_mount(void)
{
	begin((struct hither_mount_options){.direct = true}, 0);
	several_clients();
	end();
}

static void with_little_room(void)
{
	begin((struct hither_mount_options){.direct = true}, 256 << 10);
	several_clients();
	end();
	begin(local, 256 << 10);
	several_clients();
	end();
}

/* Who does not read what it asked for holds up nobody else, and gets it right when it does. */
static void one_that_stops_reading(void)
{
	begin(local, 0);
	struct client slow = {.fd = connect_one(true)};
	choose(&slow, 5);
	memset(slow.writes, 0, sizeof slow.writes);
	CHECK(!pthread_create(&slow.sender, NULL, send_all, &slow));
	struct pollfd answer = {.fd = slow.fd, .events = POLLIN};
	CHECK_EQ(poll(&answer, 1, 20000), 1);
	several_clients();
	check_replies(&slow);
	pthread_join(slow.sender, NULL);
	close(slow.fd);
	/* And one that never does is no trouble in the end. */
	slow.fd = connect_one(true);
	CHECK(!pthread_create(&slow.sender, NULL, send_all, &slow));
	answer.fd = slow.fd;
	CHECK_EQ(poll(&answer, 1, 20000), 1);
	pthread_join(slow.sender, NULL); /* requests alone fit into the socket */
	close(slow.fd);
	end();
}

/* --- zeros --- */

static uint32_t answer_to(int fd, enum nbd_command command, uint16_t flags, uint64_t offset,
                          uint32_t len)
{
	uint8_t head[NBD_REQUEST_BYTES], reply[NBD_SIMPLE_REPLY_BYTES];
	uint8_t *at = nbd_put32(head, NBD_REQUEST_MAGIC);
	at = nbd_put16(nbd_put16(at, flags), (uint16_t)command);
	nbd_put32(nbd_put64(nbd_put64(at, offset), offset), len);
	put(fd, head, sizeof head);
	get(fd, reply, sizeof reply);
	CHECK_EQ(nbd_get32(reply), NBD_SIMPLE_REPLY_MAGIC);
	CHECK_EQ(nbd_get64(reply + 8), offset);
	return nbd_get32(reply + 4);
}

static void check_zeroed(uint64_t from, uint64_t to)
{
	uint8_t *bytes = malloc(SIZE);
	CHECK_OK(hither_mount_read_at(mount, bytes, SIZE, 0, &err));
	for (uint64_t i = 0; i < SIZE; i++)
		CHECK_EQ(bytes[i], i >= from && i < to ? 0 : byte_at(i));
	free(bytes);
}

/* Of any alignment, by holes and by writing; at the end, too. */
static void zeros_are_made(void)
{
	static const struct {
		uint64_t offset;
		uint32_t len;
		uint16_t flags;
	} zeroes[] = {{4096, 8192, 0},
	              {5, 4095, 0},
	              {100, 100, NBD_CMD_FLAG_FUA},
	              {4097, 1 << 20, NBD_CMD_FLAG_FUA},
	              {4097, 1 << 20, NBD_CMD_FLAG_NO_HOLE},
	              {SIZE - 5000, 5000, 0},
	              {0, SIZE, 0}};
	for (unsigned i = 0; i < sizeof zeroes / sizeof zeroes[0]; i++)
		for (unsigned direct = 0; direct < 2; direct++) {
			begin(direct ? (struct hither_mount_options){.direct = true} : local, 0);
			int fd = connect_one(false);
			CHECK_EQ(answer_to(fd, NBD_CMD_WRITE_ZEROES, zeroes[i].flags,
			                   zeroes[i].offset, zeroes[i].len),
			         0);
			check_zeroed(zeroes[i].offset, zeroes[i].offset + zeroes[i].len);
			close(fd);
			end();
		}
}

/* It is told what is quick, and what is not. */
static void fast_zeros_are_holes(void)
{
	uint16_t flags = NBD_CMD_FLAG_FAST_ZERO;
	begin((struct hither_mount_options){.direct = true}, 0);
	int fd = connect_one(false);
	CHECK_EQ(answer_to(fd, NBD_CMD_WRITE_ZEROES, flags, 0, 1 << 20), 0);
	CHECK_EQ(answer_to(fd, NBD_CMD_WRITE_ZEROES, flags | NBD_CMD_FLAG_NO_HOLE, 1 << 20, 4096),
	         NBD_ENOTSUP);
	check_zeroed(0, 1 << 20);
	CHECK_EQ(answer_to(fd, NBD_CMD_TRIM, 0, 1 << 20, 8192), 0);
	check_zeroed(0, (1 << 20) + 8192);
	close(fd);
	end();
	begin(local, 0); /* whose backend would be written all the same */
	fd = connect_one(false);
	CHECK_EQ(answer_to(fd, NBD_CMD_WRITE_ZEROES, flags, 0, 1 << 20), NBD_ENOTSUP);
	check_zeroed(0, 0);
	close(fd);
	end();
}

static void what_is_no_stream_is_refused(void)
{
	int pair[2];
	begin(local, 0);
	CHECK(!pipe(pair));
	CHECK_EQ(hither_export_connect(export, pair[1], "", &err), -ENOTSOCK);
	CHECK_EQ(write(pair[1], "", 1), -1); /* it is closed, as promised */
	CHECK_EQ(errno, EBADF);
	close(pair[0]);
	end();
}

/* Whose descriptor it was may have used it without waiting. */
static void a_descriptor_that_does_not_wait(void)
{
	int pair[2];
	uint8_t byte[1 + NBD_SIMPLE_REPLY_BYTES];
	begin(local, 0);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	CHECK_OK(hither_export_connect(export, pair[1], "", &err));
	struct pollfd end_of_it = {.fd = pair[0], .events = POLLIN};
	CHECK_EQ(poll(&end_of_it, 1, 100), 0); /* it is not hung up on */
	send_request(pair[0], NBD_CMD_READ, 1, 7, 1);
	CHECK_EQ(poll(&end_of_it, 1, 20000), 1);
	CHECK_EQ(recv(pair[0], byte, sizeof byte, 0), sizeof byte);
	CHECK_EQ(byte[NBD_SIMPLE_REPLY_BYTES], byte_at(7));
	close(pair[0]);
	end();
}

int main(void)
{
	RUN(from_where_it_is);
	RUN(out_of_a_store_that_loses_bytes);
	RUN(through_a_direct_mount);
	RUN(with_little_room);
	RUN(one_that_stops_reading);
	RUN(zeros_are_made);
	RUN(fast_zeros_are_holes);
	RUN(a_descriptor_that_does_not_wait);
	RUN(what_is_no_stream_is_refused);
	return 0;
}
