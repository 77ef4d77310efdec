/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/link.h"

#include "base/clock.h"
#include "base/tcp.h"

#include <string.h>

#define RTT_PERIOD_NS (15 * HITHER_NS_PER_S)
/*
 * A round is long enough not to take a burst of arrivals for the line's rate: with 10 ms it came
 * out 20 % too high over 10 ms and 500 Mbit/s, and queues overflowed; on busy processors, where
 * bytes wait for their reader, 50 ms are not enough either. While the rate still grows it has to be
 * quick.
 */
#define ROUND_MIN_NS (40 * HITHER_NS_PER_MS)
#define ROUND_MAX_NS (200 * HITHER_NS_PER_MS)
/*
 * What a lost packet has held up, a window of one connection, comes at once when it is sent again.
 * In one round of 200 ms that was 2.8 MB/s over a line of 1.5, 150 ms away, whose queue overflowed
 * from then on: so a round is some round trips long.
 */
#define ROUND_TRIPS 4
#define ROUND_LONG_NS HITHER_NS_PER_S
#define WINDOW_FIRST (UINT64_C(1) << 20)
#define WINDOW_MIN (UINT64_C(256) << 10)
#define WINDOW_MAX (UINT64_C(64) << 20)
#define EXTENT_MIN (UINT64_C(32) << 10)
#define EXTENT_MAX (UINT64_C(2) << 20)
#define RTT_LONG_NS (5 * HITHER_NS_PER_MS)
/*
 * Before anything is known connections are new, too, and bring ten segments in their first round
 * trip and twice that in the next (RFC 6928): what comes by many of them at once is here sooner.
 */
#define EXTENT_FIRST (UINT64_C(32) << 10)
#define STARTUP_FLAT_ROUNDS 3
#define NARROW_RATE UINT64_C(3000000)
#define QUEUED_MANY 8 /* of one or two, a server may have thought */
/* Of this machine, until it is known better: 5 MB under way, which a disk reads in a few ms. */
#define NEAR_RATE UINT64_C(600000000)
/*
 * Requests that share the window, each on a connection of its own. Few and long ones leave a line
 * of 150 ms half empty for seconds, since each connection's own window has to grow to its share
 * first, and a lost packet holds up a sixth of what is under way. Too many are as bad: the places
 * for requests run out before the window is full, and the line's rate is never learnt. Half of
 * those places are enough, as on average half of a request has come already.
 */
#define SHARES 12
#define FLIGHT_BYTES ((uint64_t)HITHER_TCP_FIRST_BLOCK_BYTES)
#define FLIGHT_STEP (UINT64_C(4) << 10)
#define PART_FIRST (UINT64_C(32) << 10)

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
	return v < low ? low : v > high ? high : v;
}

void hither_link_start_near(struct hither_link *l)
{
	l->rates[l->round++ % HITHER_LINK_ROUNDS] = NEAR_RATE;
	l->startup_flat = STARTUP_FLAT_ROUNDS;
}

/*
 * While the rate is being found out a megabyte is under way, of which a narrow line's queue loses
 * most: where everything comes late it is known well enough.
 */
static void note_queue(struct hither_link *l, uint64_t ns)
{
	uint64_t rtt = hither_link_rtt_ns(l), rate = hither_link_rate(l);
	bool queued = hither_link_is_far(l) && ns > rtt * 3 / 2 && rate && rate < NARROW_RATE;
	l->queued = queued ? l->queued + 1 : 0;
	if (l->queued >= QUEUED_MANY)
		l->startup_flat = STARTUP_FLAT_ROUNDS;
}

void hither_link_first_byte(struct hither_link *l, uint64_t now_ns, uint64_t ns)
{
	if (ns == 0)
		ns = 1;
	if (now_ns - l->rtt_period_ns > RTT_PERIOD_NS) {
		l->drain_ns = l->rtt_min_ns[0] > RTT_LONG_NS ? now_ns + ns : 0;
		l->rtt_min_ns[1] = l->rtt_min_ns[0];
		l->rtt_min_ns[0] = 0;
		l->rtt_period_ns = now_ns;
	}
	if (now_ns - ns >= l->drain_ns) {
		l->drain_ns = 0;
		l->back = false;
	}
	if (!l->rtt_min_ns[0] || ns < l->rtt_min_ns[0])
		l->rtt_min_ns[0] = ns;
	if (hither_link_starts(l))
		note_queue(l, ns);
}

uint64_t hither_link_rtt_ns(const struct hither_link *l)
{
	uint64_t a = l->rtt_min_ns[0], b = l->rtt_min_ns[1];
	return !a ? b : !b ? a : a < b ? a : b;
}

uint64_t hither_link_rate(const struct hither_link *l)
{
	uint64_t best = 0;
	for (unsigned i = 0; i < HITHER_LINK_ROUNDS; i++)
		if (l->rates[i] > best)
			best = l->rates[i];
	return best;
}

static void end_startup_when_flat(struct hither_link *l, uint64_t rate)
{
	if (l->startup_flat >= STARTUP_FLAT_ROUNDS)
		return;
	if (rate > l->startup_rate + l->startup_rate / 4) {
		l->startup_rate = rate;
		l->startup_flat = 0;
	} else {
		l->startup_flat++;
	}
}

static void end_round(struct hither_link *l, uint64_t now_ns)
{
	l->cold = false;
	uint64_t rate = l->round_bytes * HITHER_NS_PER_S / (now_ns - l->round_start_ns);
	/* A reader that asks for little says nothing about the line, unless it got more than was
	 * known. */
	if (l->round_full || rate > hither_link_rate(l)) {
		l->rates[l->round++ % HITHER_LINK_ROUNDS] = rate;
		if (l->round_full) /* that it does not grow is the line's doing */
			end_startup_when_flat(l, rate);
	}
	l->round_start_ns = now_ns;
	l->round_bytes = 0;
	l->round_full = true;
}

static uint64_t round_ns(const struct hither_link *l)
{
	uint64_t rtt = hither_link_rtt_ns(l);
	return hither_link_starts(l) ? clamp(rtt, ROUND_MIN_NS, ROUND_MAX_NS)
	                             : clamp(ROUND_TRIPS * rtt, ROUND_MAX_NS, ROUND_LONG_NS);
}

void hither_link_bytes(struct hither_link *l, uint64_t now_ns, uint64_t len, bool full)
{
	if (!l->round_start_ns) {
		/* These bytes open the round: they were sent before it. */
		l->round_start_ns = now_ns;
		l->round_bytes = 0;
		l->round_full = true;
		return;
	}
	l->round_bytes += len;
	l->round_full = l->round_full && full;
	if (now_ns - l->round_start_ns >= round_ns(l))
		end_round(l, now_ns);
}

void hither_link_idle(struct hither_link *l, uint64_t now_ns)
{
	l->round_start_ns = 0;
	l->idle_ns = now_ns;
}

void hither_link_back(struct hither_link *l, uint64_t now_ns)
{
	l->round_start_ns = 0;
	l->back = hither_link_is_far(l);
	l->drain_ns = l->back ? now_ns : 0;
}

void hither_link_busy(struct hither_link *l, uint64_t now_ns)
{
	/* On a short way they are wide again before it matters. */
	if (l->idle_ns && now_ns - l->idle_ns > HITHER_TCP_RTO_MIN_NS && hither_link_is_far(l))
		l->cold = true;
}

bool hither_link_starts(const struct hither_link *l)
{
	return l->startup_flat < STARTUP_FLAT_ROUNDS;
}

bool hither_link_is_far(const struct hither_link *l)
{
	return hither_link_rtt_ns(l) > RTT_LONG_NS;
}

bool hither_link_is_narrow(const struct hither_link *l)
{
	uint64_t rate = hither_link_rate(l);
	return rate && rate < NARROW_RATE && hither_link_is_far(l) && !hither_link_starts(l);
}

uint64_t hither_link_window(const struct hither_link *l)
{
	uint64_t rtt = hither_link_rtt_ns(l), rate = hither_link_rate(l);
	bool starting = hither_link_starts(l);
	if (!rate || (!rtt && starting))
		return WINDOW_FIRST;
	/* In 1/16 s and ns steps without overflow: rates reach 2^34, round trips 2^33. */
	uint64_t product = (rate >> 4) * (rtt >> 4) / (HITHER_NS_PER_S >> 8);
	uint64_t gained = hither_link_is_narrow(l) ? product * 5 / 4 : product * 7 / 4;
	if (l->drain_ns)
		return clamp(l->back ? product * 3 / 4 : product, 2 * EXTENT_MIN, WINDOW_MAX);
	if (starting)
		return clamp(gained, WINDOW_FIRST, WINDOW_MAX);
	/* However short the round trip, a request costs: keep 8 ms of work queued. */
	uint64_t busy = rate / 125;
	return clamp(gained > busy ? gained : busy, WINDOW_MIN, WINDOW_MAX);
}

uint64_t hither_link_extent(const struct hither_link *l, uint32_t places)
{
	if (!hither_link_rate(l))
		return EXTENT_FIRST;
	/* While the rate still grows so do the connections' windows: all that there is room for. */
	bool starting = hither_link_starts(l);
	uint64_t want = hither_link_window(l) / clamp(places / 2, 1, starting ? places : SHARES);
	uint64_t busy = hither_link_rate(l) / 250; /* 4 ms of the line */
	want = clamp(busy > want ? busy : want, EXTENT_MIN, EXTENT_MAX);
	return want - want % EXTENT_MIN;
}

/* Over a long way a connection brings what its window allows in a round trip, and one that rested
 * ten segments: several bring the same sooner than one. */
uint64_t hither_link_quick_extent(const struct hither_link *l, uint32_t places)
{
	uint64_t extent = hither_link_extent(l, places);
	if (!hither_link_is_far(l) || extent <= EXTENT_FIRST)
		return extent;
	/* On a line that carries much in a round trip such pieces would take all places, and not
	 * fill it: half of it they must. */
	uint64_t least = hither_link_window(l) / 2 / (places ? places : 1);
	return clamp(least - least % EXTENT_MIN, EXTENT_FIRST, extent);
}

/* No farther than that it does not matter how many round trips it takes. */
static bool is_near(const struct hither_link *l)
{
	uint64_t rtt = hither_link_rtt_ns(l);
	return rtt ? rtt <= RTT_LONG_NS : hither_link_rate(l) > 0;
}

uint64_t hither_link_jump_extent(const struct hither_link *l, uint32_t places)
{
	return is_near(l) ? hither_link_quick_extent(l, places) : FLIGHT_BYTES;
}

uint64_t hither_link_flight(const struct hither_link *l, uint64_t brought)
{
	uint64_t flight = FLIGHT_BYTES + brought;
	return is_near(l) ? EXTENT_MAX
	                  : clamp(flight - flight % FLIGHT_STEP, FLIGHT_BYTES, EXTENT_MAX);
}

uint64_t hither_link_part(const struct hither_link *l, uint32_t connections)
{
	if (is_near(l) || !connections)
		return 0;
	/* A little more than what is on the line in a round trip. */
	uint64_t share = hither_link_window(l) * 3 / 4 / connections;
	uint64_t least = hither_link_starts(l) ? PART_FIRST : FLIGHT_BYTES;
	return clamp(share, least, EXTENT_MAX);
}
