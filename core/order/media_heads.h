/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The playheads of the media order: places in time that somebody plays at. Reads move them, and a
 * read that fits none makes a new one (a seek, or one more viewer). The one that has the least
 * ahead of it is served first, so that a seek makes what was wanted for the old place yield at
 * once, and the old place gets nothing more unless it is heard of several times again: a reader
 * that is being stopped may still read a little there. When all have what they should, the places
 * that a viewer is likely to seek to come, then, if the mount wants everything, the rest from the
 * latest playhead on.
 *
 * What nobody will look at for seconds does not fill the line: a seek would wait behind it.
 */
#ifndef HITHER_ORDER_MEDIA_HEADS_H
#define HITHER_ORDER_MEDIA_HEADS_H

#include <hither/media.h>
#include <hither/order.h>

enum { MEDIA_HEADS = 16, MEDIA_URGENT = 4 };

struct media_head {
	uint64_t time_us;
	uint64_t used; /* when it was heard of, on the heads' clock; 0: free */
	uint64_t born; /* of the youngest head when it was last heard of, and how often since */
	unsigned heard;
	size_t cursor; /* number of the piece to guess next, and so many bytes of it are guessed */
	uint64_t cursor_bytes;
	size_t target; /* seek targets that are done */
};

struct media_heads {
	const struct hither_order_view *view;
	const struct hither_media *media;
	uint64_t rate; /* bytes a second that are played */
	uint64_t clock;
	uint64_t born;      /* when the youngest appeared */
	uint64_t under_way; /* bytes that were handed out and have not come */
	unsigned calls;     /* so often was asked since anything has come */
	/* Where somebody waits after a seek: left to hand out, and all of it until it is here. */
	struct hither_range urgent[MEDIA_URGENT], wave[MEDIA_URGENT];
	size_t wave_count;
	unsigned wave_calls;
	struct hither_range target; /* that was handed out last */
	unsigned target_calls;
	struct media_head heads[MEDIA_HEADS];
};

/* One playhead at the start. Both are the caller's, and stay. */
void media_heads_begin(struct media_heads *hs, const struct hither_order_view *view,
                       const struct hither_media *media);
/* Somebody has read r; waited: it was not here. */
void media_heads_hear(struct media_heads *hs, struct hither_range r, bool waited);
/* So many bytes have come. */
void media_heads_came(struct media_heads *hs, uint64_t len);
/* As an order's next(). */
bool media_heads_next(struct media_heads *hs, uint64_t window_bytes, struct hither_range *out);

#endif
