/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a link can carry, measured as it runs, and so how much to ask for.
 *
 * Bytes asked for and not yet arrived (the window) are what fills the pipe: bandwidth x round trip
 * of them keep it busy, more of them only queue in front of whoever comes next. So the window
 * follows the product of the two, as TCP BBR's does (rate: greatest of the recent rounds; round
 * trip: least of the recent first bytes): 1.75 times it, of which one is on the line. The rest is
 * what connections that lost a packet hold up. Over 10 ms and 500 Mbit/s 1.5 times filled 87 % of
 * the line, 1.75 times 95 %, twice 97 %; but twice overflows queues of the line's own product, and
 * one demand in a hundred then waits for a retransmission timer.
 *
 * On a narrow line, of less than 24 Mbit/s, a request's 32 KiB fill much of such a queue at once: a
 * quarter more than the product overflows none, and what is not lost holds up nothing. What is lost
 * nevertheless does not count as under way there (outage.c).
 *
 * What queues is the window's own doing, and a least round trip with it in would make the window
 * larger, and that the queue, up to any size. So a period begins with a window of once the product,
 * until a request has met no queue.
 *
 * No lock: the mount's guards it. Times are nanoseconds of one monotonic clock.
 */
#ifndef HITHER_MOUNT_LINK_H
#define HITHER_MOUNT_LINK_H

#include <stdbool.h>
#include <stdint.h>

enum { HITHER_LINK_ROUNDS = 10 };

struct hither_link {
	uint64_t rtt_min_ns[2]; /* least first byte in this and the previous period; 0: none */
	uint64_t rtt_period_ns; /* when this period began */
	uint64_t drain_ns;      /* requests from then on meet no queue; 0: one has */
	bool back;              /* that is since an outage */
	uint64_t rates[HITHER_LINK_ROUNDS]; /* bytes per second of the latest rounds */
	unsigned round;                     /* rounds so far */
	uint64_t round_start_ns;
	uint64_t round_bytes;
	bool round_full;       /* the window was in use all the time */
	bool cold;             /* connections have rested: their windows are small again */
	uint64_t idle_ns;      /* since when nothing has been under way; 0: never */
	uint64_t startup_rate; /* best so far while starting */
	unsigned startup_flat; /* rounds in which it hardly grew; 3 end the start */
	unsigned queued;       /* first bytes, in a row, that have met a queue since it started */
};

/* What is asked is in this machine: there is no line whose rate is to be found out gently. */
void hither_link_start_near(struct hither_link *l);
/* A request's first byte came after ns. */
void hither_link_first_byte(struct hither_link *l, uint64_t now_ns, uint64_t ns);
/* len bytes came; full: the window was fully used, so the rate says something about the link. */
void hither_link_bytes(struct hither_link *l, uint64_t now_ns, uint64_t len, bool full);
/* Nothing is under way: the round that was begun says nothing. */
void hither_link_idle(struct hither_link *l, uint64_t now_ns);
/*
 * It is back after an outage, and empty: what comes now comes in bursts, which tell nothing, and
 * what is asked for now is answered at once, and must not be more than its queue takes: three
 * quarters of the product.
 */
void hither_link_back(struct hither_link *l, uint64_t now_ns);
/* Something is under way again. */
void hither_link_busy(struct hither_link *l, uint64_t now_ns);

uint64_t hither_link_rtt_ns(const struct hither_link *l); /* 0: not yet known */
uint64_t hither_link_rate(const struct hither_link *l);   /* bytes per second; 0: not yet known */
/* The line may carry more than the rate: it is still being found out. */
bool hither_link_starts(const struct hither_link *l);
/* It is known to be so long that round trips matter. */
bool hither_link_is_far(const struct hither_link *l);
/* It is known to carry little in a round trip that is long. */
bool hither_link_is_narrow(const struct hither_link *l);
/* Bytes to keep under way. */
uint64_t hither_link_window(const struct hither_link *l);
/*
 * Bytes of one background request, of which at most `places` are under way at a time: small enough
 * that several share the window, long enough that they fill it. A multiple of 32 KiB.
 */
uint64_t hither_link_extent(const struct hither_link *l, uint32_t places);
/* The same of a request whose bytes somebody waits for, on a line that has room. */
uint64_t hither_link_quick_extent(const struct hither_link *l, uint32_t places);
/*
 * The same where somebody has jumped to, and nothing was asked for yet: what a connection that has
 * rested brings in one round trip.
 */
uint64_t hither_link_jump_extent(const struct hither_link *l, uint32_t places);
/*
 * Bytes that come in one round trip over a connection which has brought so many since it was new or
 * has rested: it begins with ten segments, and sends one more for each that was taken (RFC 5681,
 * 6928). A multiple of 4 KiB.
 */
uint64_t hither_link_flight(const struct hither_link *l, uint64_t brought);
/*
 * Bytes of one part of a read that goes over several of so many connections, at most: what it takes
 * to fill the line with all of them, as the shorter parts are the more they come in order. 0: the
 * read goes out as it is.
 */
uint64_t hither_link_part(const struct hither_link *l, uint32_t connections);

#endif
