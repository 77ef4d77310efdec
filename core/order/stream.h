/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One reader that has shown a pattern: where it is, and what it will read next. Two kinds.
 *
 *     run       head          emitted
 *     start      |<-- window --->|          a run reads on from its head, small gaps allowed;
 *       |########|===============|......    backwards it is the same, seen in a mirror (x -> size -
 * x)
 *
 *     |##|......|##|......|==|......|==|    a stride reads elements of like length at a constant
 * step head   ahead=1   ahead=2   (signed); an element may itself arrive in several accesses
 *
 * # read, = handed out as a guess. What is handed out stays within the window, which grows with
 * each access that fits, so that a reader who stops or jumps costs one window at most.
 */
#ifndef HITHER_ORDER_STREAM_H
#define HITHER_ORDER_STREAM_H

#include <hither/order.h>
#include <stdbool.h>
#include <stdint.h>

#define STREAM_PAGE UINT64_C(4096)
#define STREAM_LEAST_WINDOW (UINT64_C(64) << 10)

enum stream_kind { STREAM_FREE, STREAM_RUN, STREAM_STRIDE };

struct stream {
	enum stream_kind kind;
	uint64_t window; /* bytes to be ahead of the reader; the link's may be less */
	uint64_t used;   /* clock of the last access that fitted */
	uint64_t waited; /* clock of the last one that had to wait; 0: none since this was served */
	uint64_t served; /* count of guesses when it was served last */
	union {
		struct { /* positions are mirrored if backward */
			bool backward;
			uint64_t start;   /* where it was first seen */
			uint64_t head;    /* where the reader is */
			uint64_t emitted; /* handed out up to here; never less than head */
			uint64_t left;    /* told as left behind up to here */
		} run;
		struct {
			bool exact;        /* every step was the same so far */
			uint32_t steps;    /* seen; span / steps is the mean step */
			int64_t span;      /* from the first element to the last, signed */
			uint64_t head;     /* offset of the last element read */
			uint64_t elem_len; /* how long elements are */
			uint64_t run_len;  /* how far the last one has been read */
			uint64_t ahead;    /* elements after the last one that were handed out */
		} stride;
	};
};

/* An access, inside the mount. */
struct access {
	uint64_t offset, len;
};

/* x's place in a mirror that turns [0, size) around. */
static inline struct access stream_mirror(struct access x, uint64_t size)
{
	return (struct access){size - x.offset - x.len, x.len};
}

/* How far the next access of a run may lie ahead while it is only suspected to be one. */
uint64_t stream_gap(uint64_t len);

/* Does b, read after a, go on where a ended? A small gap or an overlap of a page are fine. */
bool stream_follows(struct access a, struct access b);
/* Are the steps alike, given how page rounding shifts accesses of that step and length? */
bool stream_same_step(int64_t step, int64_t other, uint64_t len);

/* Start s with a run from start whose latest access is x (both mirrored if backward). */
void stream_start_run(struct stream *s, bool backward, uint64_t start, struct access x);
/* Start s with a stride whose latest element begins at head, and elements were elem_len long. */
void stream_start_stride(struct stream *s, uint64_t head, int64_t span, uint32_t steps, bool exact,
                         uint64_t elem_len);

/* How far x is from what s expects next; UINT64_MAX: x is none of s's accesses. */
uint64_t stream_distance(const struct stream *s, struct access x, uint64_t size);
/* Does x lie near the head of the run s, or in what was handed out for it? */
bool stream_covers(const struct stream *s, struct access x, uint64_t size);
/* x belongs to s: move on. */
void stream_advance(struct stream *s, struct access x, uint64_t size);
/* x went on where an element of s lies, whether or not it belongs to s: learn how long they are. */
void stream_note(struct stream *s, struct access x);

/*
 * What s expects next and has not handed out, at most limit bytes ahead of its reader; false:
 * nothing now. With hand_out false it only looks.
 */
bool stream_guess(struct stream *s, uint64_t limit, uint64_t size, bool hand_out,
                  struct hither_range *out);

/* What the reader of a long run has left behind, told once; false: nothing now. */
bool stream_left(struct stream *s, uint64_t size, struct hither_range *out);

#endif
