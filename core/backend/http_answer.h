/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an HTTP server answered, and whether that is what was asked for. Pure: bytes in, verdict
 * out, no network and no libcurl, so that it can be fuzzed. RFC 9110 (semantics of ranges and
 * validators).
 */
#ifndef HITHER_BACKEND_HTTP_ANSWER_H
#define HITHER_BACKEND_HTTP_ANSWER_H

#include <hither/error.h>
#include <hither/range.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HITHER_HTTP_ETAG_BYTES =
	        240, /* a longer ETag is left out: it would not fit HITHER_VERSION_BYTES */
	HITHER_HTTP_MODIFIED_BYTES = 64,
	HITHER_HTTP_BOUNDARY_BYTES = 71, /* RFC 2046, 5.1.1 */
	HITHER_HTTP_PART_LINE_BYTES = 512,
	HITHER_HTTP_FIRST_BYTES = 8192,     /* asked for when opening */
	HITHER_HTTP_WHOLE_BYTES = 1u << 20, /* without range support, so much is read whole */
};

/* What tells one version of a resource from another; either may be "". Printable ASCII and more. */
struct hither_http_version {
	char etag[HITHER_HTTP_ETAG_BYTES]; /* as sent, with quotes and W/ */
	char modified[HITHER_HTTP_MODIFIED_BYTES];
};

/* To and from the strings of hither_backend_version(). A string that is not ours gives "" for both.
 */
void hither_http_version_print(const struct hither_http_version *v, char *out, size_t size);
void hither_http_version_parse(struct hither_http_version *v, const char *text);
/* Do they tell of two versions? A validator that one of them lacks says nothing. */
bool hither_http_versions_differ(const struct hither_http_version *a,
                                 const struct hither_http_version *b);
/* May it be sent in If-Match, which wants a strong ETag? */
bool hither_http_version_is_strong(const struct hither_http_version *v);

/* The headers of one answer. */
struct hither_http_answer {
	int status;      /* 0: no status line yet */
	bool ended;      /* the empty line was seen */
	bool has_length; /* Content-Length */
	bool has_range;  /* Content-Range: bytes first-last/... */
	bool has_total;  /* Content-Range: .../total */
	bool bad_range;  /* Content-Range makes no sense, or comes twice and differs */
	bool chunked;    /* the end of the body can be told without Content-Length */
	bool multipart;  /* multipart/byteranges */
	char boundary[HITHER_HTTP_BOUNDARY_BYTES]; /* between its parts; "": none that is good */
	uint64_t length, first, last, total;
	int64_t date;      /* seconds since 1970; 0: none */
	int64_t retry_at;  /* Retry-After as a date; 0: none */
	int64_t retry_s;   /* Retry-After in seconds; 0: none */
	char encoding[32]; /* Content-Encoding, if not identity */
	struct hither_http_version version;
};

/*
 * Take in one header line, its line end included or not. A status line starts a new answer (after
 * 1xx or a redirect); an empty line ends the headers; what follows (trailers) is ignored.
 */
void hither_http_answer_line(struct hither_http_answer *a, const char *line, size_t len);
/* Seconds since 1970 of "Sun, 06 Nov 1994 08:49:37 GMT"; 0: it is not of that form. */
int64_t hither_http_date(const char *text);

/* What was asked. */
struct hither_http_question {
	const char *url;  /* as shown in messages, without secrets */
	bool opening;     /* the first request; the rest is then not looked at, but known */
	bool conditional; /* opening: If-None-Match or If-Modified-Since was sent, of `version` */
	bool signed_in;   /* a name and password were sent */
	bool last;        /* opening: the last len bytes are asked for; offset says nothing */
	uint64_t offset, len, size_bytes; /* the range, and the size that was opened */
	const struct hither_range
	        *ranges; /* several were asked for, offset and len are the first's; NULL */
	size_t count;
	struct hither_http_version version; /* that was opened, or is hoped for when opening */
	int64_t now; /* seconds since 1970, for Retry-After where the server sends no Date */
};

/* What to do with the body. */
enum hither_http_verdict {
	HITHER_HTTP_RANGE, /* it is the range asked for; opening: a->total is the size */
	HITHER_HTTP_PARTS, /* several ranges were asked for, and this is multipart/byteranges */
	HITHER_HTTP_WHOLE, /* it is the whole resource, at most HITHER_HTTP_WHOLE_BYTES (a->length
	                      if it is known) */
	HITHER_HTTP_EMPTY, /* opening: a resource of no bytes */
	HITHER_HTTP_UNCHANGED, /* opening: the known version holds */
	HITHER_HTTP_RENEW, /* opening: 304, but for another version than asked: ask unconditionally
	                    */
};

/*
 * Once a->ended. A verdict or a negative errno: -EAGAIN (a busy server; err->retry_after_ms),
 * -ENOENT, -EACCES, -EOPNOTSUPP (no ranges), -ESTALE (another version than was opened), -EPROTO (an
 * answer that does not fit the question), -EIO. Where several ranges were asked for, -EOPNOTSUPP
 * also means: this server does not send several; ask for one at a time.
 */
int hither_http_judge(const struct hither_http_answer *a, const struct hither_http_question *q,
                      struct hither_error *err);

/*
 * The body of an answer with several ranges (RFC 9110, 14.6). Zero-initialise, set the first group.
 * The question and its ranges outlive it.
 */
struct hither_http_parts {
	const struct hither_http_question *question;
	const char *boundary; /* not "" */
	/* Gets the ranges' bytes, in their order; 0, or a code that ends it. They may turn out to
	 * be what comes after a part that is too short: until part_ended() they are not to be used.
	 */
	int (*take)(void *user, const char *bytes, size_t len);
	/* A part was as long as it said: all that take() got is right. */
	void (*part_ended)(void *user);
	void *user;

	size_t at;      /* the range that comes next, or is coming */
	uint64_t left;  /* bytes of it that are still to come */
	bool headers;   /* its part has begun */
	bool ending;    /* its bytes are here: a line end and the boundary must come now */
	size_t ended;   /* bytes of these that have come */
	unsigned lines; /* that were neither */
	struct hither_http_answer part;
	size_t line_len;
	char line[HITHER_HTTP_PART_LINE_BYTES];
};

/*
 * Take in the next len bytes of body. 0; take's code; -EOPNOTSUPP: these are not the ranges asked
 * for, in their order, so ask for one at a time; -EPROTO: no multipart body, or a part that is not
 * as long as it says; -ESTALE: of another size. What follows the last boundary is ignored.
 */
int hither_http_parts_feed(struct hither_http_parts *p, const char *data, size_t len,
                           struct hither_error *err);

/* Fail with -EOPNOTSUPP: parts cannot be had, and what to do. */
int hither_http_no_ranges(const struct hither_http_question *q, struct hither_error *err);

#endif
