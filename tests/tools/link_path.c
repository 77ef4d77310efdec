/* SPDX-License-Identifier: Apache-2.0 */
#include "link_path.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
	SEGMENT_BYTES = 1448, /* payload of a full Ethernet frame with TCP timestamps */
	HEADER_BYTES = 52,
	FIRST_WINDOW = 10 * SEGMENT_BYTES, /* RFC 6928 */
	LARGEST_WINDOW = 6 << 20,          /* as Linux's tcp_rmem */
	LARGEST_READ = 64 << 10,
	SMALLEST_QUEUE = 64 << 10,
	SOCKET_BUFFER = 128 << 10, /* small, so that a slow line is felt at the sender */
};
#define NS_PER_S UINT64_C(1000000000)
#define RETRANSMIT_NS                                                                              \
	(NS_PER_S / 5) /* Linux's least RTO: an idle connection's window shrinks by it */

uint64_t link_real_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t link_now(const struct link_path *p)
{
	return (p->outage_since ? p->outage_since : link_real_ns()) - p->stopped_ns;
}

static void fifo_put(struct link_fifo *f, struct link_piece *piece)
{
	piece->next = NULL;
	if (f->head)
		f->last->next = piece;
	else
		f->head = piece;
	f->last = piece;
}

static struct link_piece *fifo_take(struct link_fifo *f)
{
	struct link_piece *piece = f->head;
	if (piece)
		f->head = piece->next;
	return piece;
}

static void piece_free(struct link_piece *piece)
{
	piece->flow->pieces--;
	free(piece);
}

static struct link_piece *piece_new(struct link_flow *flow, enum link_kind kind, size_t room)
{
	struct link_piece *piece = malloc(sizeof *piece + room);
	if (!piece) {
		fprintf(stderr, "link: no memory\n");
		exit(1);
	}
	*piece = (struct link_piece){.flow = flow, .kind = kind};
	flow->pieces++;
	return piece;
}

/* --- flows --- */

static void end_close(struct link_end *end, bool reset)
{
	if (end->fd < 0)
		return;
	if (reset) {
		struct linger now = {.l_onoff = 1, .l_linger = 0};
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	}
	close(end->fd);
	end->fd = -1;
	end->readable = end->writable = false;
}

static void flow_close(struct link_flow *flow, bool reset)
{
	for (int w = 0; w < LINK_WAYS; w++) {
		end_close(&flow->end[w], reset);
		while (flow->lane[w].out.head)
			piece_free(fifo_take(&flow->lane[w].out));
	}
	flow->dead = true;
}

static void end_open(struct link_path *p, struct link_end *end, int fd)
{
	int one = 1, bytes = SOCKET_BUFFER;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	end->fd = fd;
	struct epoll_event want = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
	                           .data.ptr = end};
	if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &want))
		flow_close(end->flow, true);
}

void link_path_accept(struct link_path *p, int fd)
{
	struct link_flow *flow = calloc(1, sizeof *flow);
	if (!flow) {
		close(fd);
		return;
	}
	uint64_t now = link_now(p);
	for (int w = 0; w < LINK_WAYS; w++) {
		flow->end[w] = (struct link_end){.flow = flow, .fd = -1};
		flow->lane[w].window = p->slow_start ? FIRST_WINDOW : LARGEST_WINDOW;
		flow->lane[w].sent_ns = now;
	}
	/* The handshake: the client may send after one RTT, the server knows of it half an RTT
	 * later. */
	flow->connect_ns = now + p->delay_ns;
	flow->lane[LINK_UP].read_after_ns = now + 2 * p->delay_ns;
	flow->lane[LINK_DOWN].read_after_ns = now + 3 * p->delay_ns;
	flow->next = p->flows;
	p->flows = flow;
	p->accepted++;
	end_open(p, &flow->end[LINK_UP], fd);
}

static void flow_connect(struct link_path *p, struct link_flow *flow)
{
	flow->connect_ns = 0;
	int fd = socket(p->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || (connect(fd, (struct sockaddr *)&p->to, p->to_len) && errno != EINPROGRESS)) {
		if (fd >= 0)
			close(fd);
		flow_close(flow, true);
		return;
	}
	end_open(p, &flow->end[LINK_DOWN], fd);
}

/* --- the line --- */

static uint64_t queue_limit(const struct link_path *p, const struct link_line *line)
{
	if (p->queue_bytes)
		return p->queue_bytes;
	uint64_t carried =
	        (uint64_t)((double)line->rate * 2.0 * (double)p->delay_ns / (double)NS_PER_S);
	return carried > SMALLEST_QUEUE ? carried : SMALLEST_QUEUE;
}

static uint64_t line_ns(const struct link_line *line, uint64_t bytes)
{
	return line->rate ? (uint64_t)((double)bytes * (double)NS_PER_S / (double)line->rate) : 0;
}

/* From when on the line's queue has room for another piece. */
static uint64_t line_room_ns(const struct link_path *p, const struct link_line *line)
{
	uint64_t full = line_ns(line, queue_limit(p, line));
	return line->free_ns > full ? line->free_ns - full : 0;
}

static void line_send(struct link_path *p, enum link_way way, struct link_piece *piece,
                      uint64_t now)
{
	struct link_line *line = &p->line[way];
	uint64_t frames = piece->len / SEGMENT_BYTES + 1;
	uint64_t begin = line->free_ns > now ? line->free_ns : now;
	line->free_ns = begin + line_ns(line, piece->len + frames * HEADER_BYTES);
	piece->at_ns = line->free_ns + p->delay_ns;
	fifo_put(&line->transit, piece);
}

/* --- one lane: source to line --- */

static void shrink_idle_window(struct link_path *p, struct link_lane *lane, uint64_t now)
{
	uint64_t step = RETRANSMIT_NS + 2 * p->delay_ns;
	for (uint64_t idle = now - lane->sent_ns;
	     p->slow_start && !lane->unacked && idle > step && lane->window > FIRST_WINDOW;
	     idle -= step)
		lane->window = lane->window / 2 > FIRST_WINDOW ? lane->window / 2 : FIRST_WINDOW;
}

/* Bytes that a lane may read now. */
static size_t lane_allowance(const struct link_path *p, const struct link_lane *lane,
                             enum link_way way)
{
	uint64_t rate = p->line[way].rate;
	uint64_t most =
	        rate ? rate / 2000 : LARGEST_READ; /* half a millisecond, so that flows share */
	if (most < 3 * SEGMENT_BYTES)
		most = 3 * SEGMENT_BYTES;
	if (most > LARGEST_READ)
		most = LARGEST_READ;
	uint64_t free = lane->window > lane->unacked ? lane->window - lane->unacked : 0;
	if (free < SEGMENT_BYTES && lane->unacked)
		return 0;
	return free < most ? free : most;
}

static bool lane_waiting(const struct link_flow *flow, enum link_way way)
{
	return !flow->dead && flow->end[way].readable && !flow->lane[way].ended;
}

/* One read of one lane; true: it moved something. */
static bool lane_read(struct link_path *p, struct link_flow *flow, enum link_way way, uint64_t now)
{
	struct link_lane *lane = &flow->lane[way];
	if (!lane_waiting(flow, way) || now < lane->read_after_ns ||
	    now < line_room_ns(p, &p->line[way]))
		return false;
	shrink_idle_window(p, lane, now);
	size_t most = lane_allowance(p, lane, way);
	if (!most)
		return false;
	struct link_piece *piece = piece_new(flow, LINK_DATA, most);
	ssize_t n = read(flow->end[way].fd, piece->bytes, most);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		flow->end[way].readable = errno == EINTR;
		piece_free(piece);
		return false;
	}
	if (n <= 0) {
		piece->kind = n ? LINK_RESET : LINK_END;
		lane->ended = true;
	} else {
		piece->len = (uint32_t)n;
		lane->unacked += piece->len;
	}
	lane->sent_ns = now;
	line_send(p, way, piece, now);
	return true;
}

/* --- one lane: transit to destination --- */

static void acknowledge(struct link_path *p, enum link_way way, struct link_piece *piece,
                        uint64_t now)
{
	struct link_lane *lane = &piece->flow->lane[way];
	lane->passed += piece->len;
	p->line[way].passed += piece->len;
	piece->at_ns = now + p->delay_ns;
	fifo_put(&p->line[way].acks, piece);
}

static void lane_write(struct link_path *p, struct link_flow *flow, enum link_way way, uint64_t now)
{
	struct link_lane *lane = &flow->lane[way];
	struct link_end *end = &flow->end[!way];
	while (!flow->dead && lane->out.head && end->writable) {
		struct link_piece *piece = lane->out.head;
		if (piece->kind == LINK_RESET) {
			flow_close(flow, true);
			return;
		}
		if (piece->kind == LINK_END) {
			shutdown(end->fd, SHUT_WR);
			lane->shut = true;
			piece_free(fifo_take(&lane->out));
			continue;
		}
		ssize_t n = send(end->fd, piece->bytes + piece->done, piece->len - piece->done,
		                 MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			flow_close(flow, true);
			return;
		}
		if (n < 0)
			end->writable = errno == EINTR;
		else
			piece->done += (uint32_t)n;
		if (piece->done == piece->len)
			acknowledge(p, way, fifo_take(&lane->out), now);
	}
	if (p->cut_bytes && way == LINK_DOWN && lane->passed >= p->cut_bytes)
		flow_close(flow, true);
	else if (flow->lane[LINK_UP].shut && flow->lane[LINK_DOWN].shut)
		flow_close(flow, false);
}

static void deliver_due(struct link_path *p, enum link_way way, uint64_t now)
{
	struct link_fifo *transit = &p->line[way].transit;
	while (transit->head && transit->head->at_ns <= now) {
		struct link_piece *piece = fifo_take(transit);
		struct link_flow *flow = piece->flow;
		if (flow->dead) {
			piece_free(piece);
			continue;
		}
		fifo_put(&flow->lane[way].out, piece);
		lane_write(p, flow, way, now);
	}
}

static void acks_due(struct link_path *p, enum link_way way, uint64_t now)
{
	struct link_fifo *acks = &p->line[way].acks;
	while (acks->head && acks->head->at_ns <= now) {
		struct link_piece *piece = fifo_take(acks);
		struct link_lane *lane = &piece->flow->lane[way];
		bool was_used = 2 * lane->unacked >= lane->window;
		assert(lane->unacked >= piece->len);
		lane->unacked -= piece->len;
		if (was_used && lane->window < LARGEST_WINDOW)
			lane->window += piece->len;
		piece_free(piece);
	}
}

/* --- all of it --- */

static void sweep_dead(struct link_path *p)
{
	for (struct link_flow **at = &p->flows; *at;) {
		struct link_flow *flow = *at;
		if (flow->dead && !flow->pieces) {
			*at = flow->next;
			free(flow);
		} else {
			at = &flow->next;
		}
	}
}

static void sooner(uint64_t *next, uint64_t at, uint64_t now)
{
	if (at > now && (!*next || at < *next))
		*next = at;
}

static void head_due(uint64_t *next, const struct link_fifo *fifo, uint64_t now)
{
	if (fifo->head)
		sooner(next, fifo->head->at_ns > now ? fifo->head->at_ns : now + 1, now);
}

static uint64_t next_due(const struct link_path *p, uint64_t now)
{
	uint64_t next = 0;
	for (int w = 0; w < LINK_WAYS; w++) {
		const struct link_line *line = &p->line[w];
		head_due(&next, &line->transit, now);
		head_due(&next, &line->acks, now);
		for (const struct link_flow *flow = p->flows; flow; flow = flow->next) {
			if (flow->dead)
				continue;
			sooner(&next, flow->connect_ns, now);
			if (lane_waiting(flow, w)) {
				sooner(&next, flow->lane[w].read_after_ns, now);
				sooner(&next, line_room_ns(p, line), now);
			}
		}
	}
	return next;
}

/* Take from every lane in turn until none has anything that fits. */
static void read_all(struct link_path *p, uint64_t now)
{
	bool moved;
	do {
		moved = false;
		for (struct link_flow *flow = p->flows; flow; flow = flow->next)
			for (int w = 0; w < LINK_WAYS; w++)
				moved |= lane_read(p, flow, w, now);
	} while (moved);
	/* Who was first is last next time. */
	if (p->flows && p->flows->next) {
		struct link_flow *first = p->flows, *last = first;
		while (last->next)
			last = last->next;
		p->flows = first->next;
		first->next = NULL;
		last->next = first;
	}
}

uint64_t link_path_pump(struct link_path *p)
{
	if (p->outage_since)
		return 0;
	uint64_t now = link_now(p);
	for (struct link_flow *flow = p->flows; flow; flow = flow->next)
		if (!flow->dead && flow->connect_ns && flow->connect_ns <= now)
			flow_connect(p, flow);
	for (int w = 0; w < LINK_WAYS; w++) {
		acks_due(p, w, now);
		deliver_due(p, w, now);
		for (struct link_flow *flow = p->flows; flow; flow = flow->next)
			lane_write(p, flow, w, now);
	}
	read_all(p, now);
	sweep_dead(p);
	uint64_t next = next_due(p, now);
	return next ? next + p->stopped_ns : 0;
}

void link_path_outage(struct link_path *p, bool on)
{
	uint64_t real = link_real_ns();
	if (on && !p->outage_since) {
		p->outage_since = real;
	} else if (!on && p->outage_since) {
		p->stopped_ns += real - p->outage_since;
		p->outage_since = 0;
	}
}

void link_path_reset(struct link_path *p)
{
	for (struct link_flow *flow = p->flows; flow; flow = flow->next)
		flow_close(flow, true);
}

void link_path_finish(struct link_path *p)
{
	link_path_reset(p);
	for (int w = 0; w < LINK_WAYS; w++) {
		while (p->line[w].transit.head)
			piece_free(fifo_take(&p->line[w].transit));
		while (p->line[w].acks.head)
			piece_free(fifo_take(&p->line[w].acks));
	}
	sweep_dead(p);
}

unsigned link_path_flow_count(const struct link_path *p)
{
	unsigned count = 0;
	for (const struct link_flow *flow = p->flows; flow; flow = flow->next)
		count += !flow->dead;
	return count;
}
