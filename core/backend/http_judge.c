/* SPDX-License-Identifier: Apache-2.0 */
/* Does an answer fit the question? One function for each kind of status. */
#include "backend/http_answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define U64 "%" PRIu64

void hither_http_version_print(const struct hither_http_version *v, char *out, size_t size)
{
	if (v->etag[0])
		snprintf(out, size, "etag:%s", v->etag);
	else if (v->modified[0])
		snprintf(out, size, "modified:%s", v->modified);
	else
		snprintf(out, size, "%s", "");
}

/* Copy text that may become a header: it can come from a file that somebody else wrote. */
static void copy_clean(char *out, size_t size, const char *text)
{
	size_t len = strlen(text);
	out[0] = 0;
	if (len >= size)
		return;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return;
	memcpy(out, text, len + 1);
}

void hither_http_version_parse(struct hither_http_version *v, const char *text)
{
	*v = (struct hither_http_version){0};
	if (strncmp(text, "etag:", 5) == 0)
		copy_clean(v->etag, sizeof v->etag, text + 5);
	else if (strncmp(text, "modified:", 9) == 0)
		copy_clean(v->modified, sizeof v->modified, text + 9);
}

bool hither_http_version_is_strong(const struct hither_http_version *v)
{
	size_t len = strlen(v->etag);
	return len >= 2 && v->etag[0] == '"' && v->etag[len - 1] == '"';
}

/* A validator that one side lacks says nothing: some servers leave it out of a 206. */
bool hither_http_versions_differ(const struct hither_http_version *a,
                                 const struct hither_http_version *b)
{
	if (a->etag[0] && b->etag[0])
		return strcmp(a->etag, b->etag) != 0;
	return a->modified[0] && b->modified[0] && strcmp(a->modified, b->modified) != 0;
}

static int changed(const struct hither_http_answer *a, const struct hither_http_question *q,
                   struct hither_error *err)
{
	bool etags = a->version.etag[0] && q->version.etag[0];
	return hither_fail(err, -ESTALE,
	                   "http: %s has changed since it was opened: its %s was %.60s and is now "
	                   "%.60s; open it again",
	                   q->url, etags ? "ETag" : "modification date",
	                   etags ? q->version.etag : q->version.modified,
	                   etags ? a->version.etag : a->version.modified);
}

static int other_size(const struct hither_http_question *q, uint64_t size, struct hither_error *err)
{
	return hither_fail(err, -ESTALE,
	                   "http: %s has changed since it was opened: it had " U64
	                   " bytes and has " U64 " now; open it again",
	                   q->url, q->size_bytes, size);
}

static int encoded(const struct hither_http_answer *a, const struct hither_http_question *q,
                   struct hither_error *err)
{
	return hither_fail(err, -EPROTO,
	                   "http: %s: the server sent it encoded as %s, although the bytes as they "
	                   "are were asked for",
	                   q->url, a->encoding);
}

static int wrong_range(const struct hither_http_answer *a, const struct hither_http_question *q,
                       uint64_t first, uint64_t last, struct hither_error *err)
{
	return hither_fail(
	        err, -EPROTO,
	        "http: %s: the server sent bytes " U64 "-" U64 " when " U64 "-" U64
	        " was asked for; download it first, or serve it by a server with Range support",
	        q->url, a->first, a->last, first, last);
}

static int judge_206_frame(const struct hither_http_answer *a, const struct hither_http_question *q,
                           struct hither_error *err)
{
	if (a->encoding[0])
		return encoded(a, q, err);
	if (a->multipart)
		return hither_fail(err, -EPROTO,
		                   "http: %s: the server sent several parts when one range was "
		                   "asked for",
		                   q->url);
	if (!a->has_range || a->bad_range)
		return hither_fail(err, -EPROTO,
		                   "http: %s: the server sent a range without a good Content-Range "
		                   "header; download it first",
		                   q->url);
	if (a->has_length && a->length != a->last - a->first + 1)
		return hither_fail(err, -EPROTO,
		                   "http: %s: the server announced " U64
		                   " bytes of body for bytes " U64 "-" U64,
		                   q->url, a->length, a->first, a->last);
	return 0;
}

static int no_several(const struct hither_http_question *q, struct hither_error *err)
{
	return hither_fail(err, -EOPNOTSUPP,
	                   "http: %s: the server does not send several ranges in one answer",
	                   q->url);
}

/*
 * Does this status say that the server will not have several ranges, where it may well have one?
 * 416 is for "many small ranges", too (RFC 9110, 15.5.17).
 */
static bool refuses_several(int status)
{
	switch (status) {
	case 401: /* these say something about the resource, the user or the moment */
	case 404:
	case 407:
	case 408:
	case 410:
	case 412:
	case 425:
	case 429:
		return false;
	default:
		return status == 501 || (status >= 400 && status < 500);
	}
}

/* Several ranges were asked for. */
static int judge_parts(const struct hither_http_answer *a, const struct hither_http_question *q,
                       struct hither_error *err)
{
	if (hither_http_versions_differ(&a->version, &q->version))
		return changed(a, q, err);
	if (a->has_total && a->total != q->size_bytes)
		return other_size(q, a->total, err);
	if (a->status == 200 && a->has_length && !a->encoding[0] && a->length != q->size_bytes)
		return other_size(q, a->length, err);
	if (a->status == 206 && a->multipart && a->boundary[0] && !a->encoding[0])
		return HITHER_HTTP_PARTS;
	return no_several(q, err);
}

static int judge_206(const struct hither_http_answer *a, const struct hither_http_question *q,
                     struct hither_error *err)
{
	int r = judge_206_frame(a, q, err);
	if (r)
		return r;
	if (!q->opening && hither_http_versions_differ(&a->version, &q->version))
		return changed(a, q, err);
	if (q->opening && !a->has_total)
		return hither_fail(err, -EPROTO,
		                   "http: %s: the server does not say how large it is; download it "
		                   "first",
		                   q->url);
	if (q->opening && a->total > INT64_MAX)
		return hither_fail(err, -EFBIG, "http: %s: " U64 " bytes are too many", q->url,
		                   a->total);
	if (!q->opening && a->has_total && a->total != q->size_bytes)
		return other_size(q, a->total, err);
	uint64_t first = q->offset, last = q->offset + q->len - 1;
	if (q->opening && (q->last || last >= a->total))
		last = a->total - 1;
	if (q->last)
		first = a->total > q->len ? a->total - q->len : 0;
	if (a->first != first || a->last != last)
		return wrong_range(a, q, first, last, err);
	return HITHER_HTTP_RANGE;
}

int hither_http_no_ranges(const struct hither_http_question *q, struct hither_error *err)
{
	return hither_fail(err, -EOPNOTSUPP,
	                   "http: %s: the server does not support range requests, so parts cannot "
	                   "be had: download it first, or serve it by a server with Range support",
	                   q->url);
}

/* The server ignored the range. */
static int judge_200(const struct hither_http_answer *a, const struct hither_http_question *q,
                     struct hither_error *err)
{
	bool small = a->has_length ? a->length <= HITHER_HTTP_WHOLE_BYTES : a->chunked;
	if (!q->opening && hither_http_versions_differ(&a->version, &q->version))
		return changed(a, q, err);
	if (!q->opening && a->has_length && !a->encoding[0] && a->length != q->size_bytes)
		return other_size(q, a->length, err);
	if (a->encoding[0])
		return encoded(a, q, err);
	if (q->opening && a->has_length && a->length == 0)
		return HITHER_HTTP_EMPTY;
	if (q->opening)
		return small ? HITHER_HTTP_WHOLE : hither_http_no_ranges(q, err);
	/* A small one that was opened by its known version only: skipping what comes before is
	 * cheap. */
	if (a->has_length && small)
		return HITHER_HTTP_WHOLE;
	return hither_fail(err, -EPROTO,
	                   "http: %s: the server sent the whole resource when bytes " U64 "-" U64
	                   " were asked for",
	                   q->url, q->offset, q->offset + q->len - 1);
}

static int judge_304(const struct hither_http_answer *a, const struct hither_http_question *q,
                     struct hither_error *err)
{
	if (!q->opening || !q->conditional)
		return hither_fail(err, -EPROTO,
		                   "http: %s: the server answered 304 to an unconditional request",
		                   q->url);
	return hither_http_versions_differ(&a->version, &q->version) ? HITHER_HTTP_RENEW
	                                                             : HITHER_HTTP_UNCHANGED;
}

static int judge_416(const struct hither_http_answer *a, const struct hither_http_question *q,
                     struct hither_error *err)
{
	if (q->opening && a->has_total && a->total == 0 && !a->bad_range)
		return HITHER_HTTP_EMPTY;
	if (q->opening)
		return hither_fail(err, -EPROTO,
		                   "http: %s: the server answered 416 when its first bytes were "
		                   "asked for; download it first",
		                   q->url);
	if (a->has_total && !a->bad_range && a->total != q->size_bytes)
		return other_size(q, a->total, err);
	return hither_fail(err, -ESTALE,
	                   "http: %s has changed since it was opened: the server has no bytes " U64
	                   "-" U64 " any more; open it again",
	                   q->url, q->offset, q->offset + q->len - 1);
}

static int retry_after_ms(const struct hither_http_answer *a, const struct hither_http_question *q)
{
	int64_t seconds = a->retry_s;
	if (a->retry_at) {
		int64_t now =
		        a->date ? a->date : q->now; /* the server's own clock, if it shows it */
		seconds = a->retry_at > now ? a->retry_at - now : 0;
	}
	return (int)(seconds < 86400 ? seconds : 86400) * 1000;
}

static int busy(const struct hither_http_answer *a, const struct hither_http_question *q,
                struct hither_error *err)
{
	hither_fail(err, -EAGAIN, "http: %s: the server answered %d (%s)", q->url, a->status,
	            a->status == 429 ? "too many requests; try again later"
	                             : "it cannot serve this now; try again later");
	if (err)
		err->retry_after_ms = retry_after_ms(a, q);
	return -EAGAIN;
}

static int denied(const struct hither_http_answer *a, const struct hither_http_question *q,
                  struct hither_error *err)
{
	if (a->status == 407)
		return hither_fail(
		        err, -EACCES,
		        "http: %s: the proxy wants a name and password (answer 407); put "
		        "them into its URL",
		        q->url);
	if (q->signed_in)
		return hither_fail(
		        err, -EACCES,
		        "http: %s: the server refuses this name and password (answer %d); "
		        "check --user",
		        q->url, a->status);
	return hither_fail(
	        err, -EACCES,
	        "http: %s: the server refuses (answer %d); a name and password come from "
	        "--user NAME:PASSWORD or ~/.netrc%s",
	        q->url, a->status,
	        a->status == 403 ? "; a folder needs a manifest (hither index)" : "");
}

static int judge_error(const struct hither_http_answer *a, const struct hither_http_question *q,
                       struct hither_error *err)
{
	switch (a->status) {
	case 401:
	case 403:
	case 407:
		return denied(a, q, err);
	case 404:
	case 410:
		if (q->opening)
			return hither_fail(err, -ENOENT,
			                   "http: %s: not found (answer %d); check the URL", q->url,
			                   a->status);
		return hither_fail(err, -ESTALE,
		                   "http: %s is gone since it was opened (answer %d); open it "
		                   "again when it is back",
		                   q->url, a->status);
	case 412:
		if (q->opening) /* nothing was asked that could fail so */
			break;
		return hither_fail(
		        err, -ESTALE,
		        "http: %s has changed since it was opened: its ETag is no longer "
		        "%.80s (answer 412); open it again",
		        q->url, q->version.etag);
	case 408:
	case 425:
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		return busy(a, q, err);
	default:
		if (a->status >= 520) /* what some proxies say about the server behind them */
			return busy(a, q, err);
	}
	return hither_fail(err, -EIO, "http: %s: the server answered %d", q->url, a->status);
}

int hither_http_judge(const struct hither_http_answer *a, const struct hither_http_question *q,
                      struct hither_error *err)
{
	if (q->ranges && (a->status == 206 || a->status == 200))
		return judge_parts(a, q, err);
	if (q->ranges && a->status == 416 && a->has_total && !a->bad_range &&
	    a->total != q->size_bytes)
		return other_size(q, a->total, err);
	if (q->ranges && refuses_several(a->status))
		return no_several(q, err);
	if (a->status == 206)
		return judge_206(a, q, err);
	if (a->status == 200)
		return judge_200(a, q, err);
	if (a->status == 304)
		return judge_304(a, q, err);
	if (a->status == 416)
		return judge_416(a, q, err);
	if (a->status >= 400 && a->status < 600)
		return judge_error(a, q, err);
	return hither_fail(err, -EPROTO, "http: %s: unexpected answer %d to a request for a range",
	                   q->url, a->status);
}
