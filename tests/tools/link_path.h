/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated path of the link tool. A flow is one proxied TCP connection; each of its two ways
 * reads from one socket, sends over the line that all flows share, and writes to the other socket:
 *
 *   source socket -> window -> line (rate, bounded queue) -> transit (delay) -> destination socket
 *        ^-------------------- acknowledgement, one delay later --------------------'
 *
 * One thread; nothing blocks. Time is the link's own: it stands still during an outage, so that all
 * that is on its way arrives later and nothing is lost, as with TCP's retransmissions.
 */
#ifndef HITHER_TESTS_LINK_PATH_H
#define HITHER_TESTS_LINK_PATH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum link_way { LINK_UP, LINK_DOWN, LINK_WAYS }; /* UP: client to server */

struct link_flow;

/* What a flow's sockets are registered with in epoll (edge-triggered). */
struct link_end {
	struct link_flow *flow;
	int fd; /* -1: closed, or not connected so far */
	bool readable, writable;
};

struct link_piece {
	struct link_piece *next;
	struct link_flow *flow;
	uint64_t at_ns; /* when it leaves transit, later when its acknowledgement arrives */
	uint32_t len, done;
	enum link_kind { LINK_DATA, LINK_END, LINK_RESET } kind;
	uint8_t bytes[];
};

struct link_fifo {
	struct link_piece *head, *last;
};

/* One way of one flow; way w reads from end w and writes to end !w. */
struct link_lane {
	struct link_fifo out;     /* arrived, waiting for the destination to take it */
	uint64_t window, unacked; /* bytes */
	uint64_t read_after_ns, sent_ns;
	uint64_t passed;
	bool ended; /* the source has no more */
	bool shut;  /* and the destination knows */
};

struct link_flow {
	struct link_flow *next;
	struct link_end
	        end[LINK_WAYS]; /* [LINK_UP] is the client's socket, [LINK_DOWN] the server's */
	struct link_lane lane[LINK_WAYS];
	uint64_t connect_ns; /* when to connect to the server; 0: done */
	uint32_t pieces;     /* that still refer to this flow */
	bool dead;
};

struct link_line {
	uint64_t rate; /* bytes a second; 0: unlimited */
	uint64_t free_ns;
	struct link_fifo transit, acks;
	uint64_t passed; /* bytes of payload that have arrived */
};

struct link_path {
	/* Set before the first call; may change while running. */
	uint64_t delay_ns;    /* one way */
	uint64_t queue_bytes; /* 0: what the line carries in one RTT, at least 64 KiB */
	uint64_t cut_bytes;   /* reset a connection after so many bytes down; 0: never */
	bool slow_start;      /* connections begin with ten segments in flight */
	struct link_line line[LINK_WAYS];
	struct sockaddr_storage to;
	socklen_t to_len;
	int epoll_fd;
	/* The path's own. */
	struct link_flow *flows;
	uint64_t stopped_ns;   /* real time minus link time */
	uint64_t outage_since; /* real time; 0: no outage */
	uint64_t accepted;
};

uint64_t link_real_ns(void);
/* A new connection from a client, non-blocking; taken over. */
void link_path_accept(struct link_path *p, int fd);
/* Move all that is due. Returns the real time of the next thing to do, 0: none before epoll says
 * so. */
uint64_t link_path_pump(struct link_path *p);
void link_path_outage(struct link_path *p, bool on);
/* Reset every connection, both sides, now. */
void link_path_reset(struct link_path *p);
/* Reset every connection and free all. */
void link_path_finish(struct link_path *p);
unsigned link_path_flow_count(const struct link_path *p);

#endif
