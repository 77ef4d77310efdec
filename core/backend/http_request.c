/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request, on the thread that wants its bytes. libcurl hands out the body in pieces of at
 * most 16 KiB, whatever it has received at once; they are gathered, so that the sink is troubled
 * once for each time that something has come. Each request has a multi handle of its own instead of
 * curl_easy_perform(), which is the same underneath: that way cancel() can wake it, and the idle
 * time-out is exact.
 */
#include "backend/http_beside.h"
#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	IGNORED_BYTES = 64 << 10, /* of an error page are read, to keep the connection */
	GRACE_MS = 100,           /* for the end of a body whose wanted bytes are all here */
};

static int gather(struct http_request *x, const char *data, size_t len);

static int gather_part(void *user, const char *data, size_t len)
{
	return gather(user, data, len);
}

static void end_part(void *user)
{
	struct http_request *x = user;
	x->held = 0;
}

static void begin_parts(struct http_request *x)
{
	x->parts = (struct hither_http_parts){.question = &x->question,
	                                      .boundary = x->answer.boundary,
	                                      .take = gather_part,
	                                      .part_ended = end_part,
	                                      .user = x};
	x->wanted = 0;
	for (size_t i = 0; i < x->question.count; i++)
		x->wanted += x->question.ranges[i].len;
}

static void judge(struct http_request *x)
{
	if (x->judged)
		return;
	x->judged = true;
	x->verdict = hither_http_judge(&x->answer, &x->question, x->err);
	if (x->verdict == HITHER_HTTP_RANGE)
		x->wanted = x->answer.last - x->answer.first + 1;
	if (x->verdict == HITHER_HTTP_PARTS)
		begin_parts(x);
	if (x->verdict == HITHER_HTTP_WHOLE && x->question.opening)
		x->wanted = x->answer.has_length ? x->answer.length : UINT64_MAX;
	else if (x->verdict == HITHER_HTTP_WHOLE)
		x->wanted = x->question.len, x->skip = x->question.offset;
}

static bool complete(const struct http_request *x)
{
	return x->judged && x->verdict >= 0 && x->delivered == x->wanted;
}

/*
 * Answers with bytes are judged before any body is waited for. Others may not be the last one (a
 * redirect, a 401 before credentials), so they are judged at the end.
 */
size_t http_on_header(char *line, size_t size, size_t count, void *request)
{
	struct http_request *x = request;
	size_t len = size * count;
	x->touched_ns = hither_now_ns();
	if (x->judged)
		return len;
	hither_http_answer_line(&x->answer, line, len);
	if (x->answer.ended && x->answer.status >= 200 && x->answer.status < 300)
		judge(x);
	return x->judged && x->verdict < 0 ? 0 : len;
}

/* Hand to the sink what has been gathered, and is not held. */
static int deliver(struct http_request *x)
{
	struct http_slot *slot = x->slot;
	size_t len = slot->gathered - x->held;
	int r = len ? x->sink->take(x->sink, slot->gather, len) : 0;
	if (r < 0)
		return hither_fail(x->err, r, "http: %s: the receiver gave up: %s", x->question.url,
		                   strerror(-r));
	x->delivered += len;
	slot->gathered = x->held;
	if (len) {
		memmove(slot->gather, slot->gather + len, x->held);
		x->touched_ns = hither_now_ns(); /* the sink's time is not the server's */
	}
	return 0;
}

/* No more of data than is wanted. */
static int gather(struct http_request *x, const char *data, size_t len)
{
	struct http_slot *slot = x->slot;
	uint64_t left = x->wanted - x->delivered - slot->gathered;
	size_t use = len < left ? len : (size_t)left;
	x->ignored += len - use;
	int r = 0;
	while (use && !r) {
		size_t room = HTTP_GATHER_BYTES - slot->gathered, n = use < room ? use : room;
		memcpy(slot->gather + slot->gathered, data, n);
		slot->gathered += n;
		x->held += x->verdict == HITHER_HTTP_PARTS ? n : 0;
		data += n;
		use -= n;
		if (slot->gathered < HTTP_GATHER_BYTES)
			continue;
		if (x->held == slot->gathered)
			x->held = 1; /* so large a part: without this byte it is not whole */
		r = deliver(x);
	}
	return r;
}

size_t http_on_body(char *data, size_t size, size_t count, void *request)
{
	struct http_request *x = request;
	size_t len = size * count;
	size_t skip = len < x->skip ? len : (size_t)x->skip;
	x->touched_ns = hither_now_ns();
	x->skip -= skip;
	if (x->judged && x->verdict == HITHER_HTTP_PARTS && x->parts.at == x->question.count)
		x->ignored += len;
	else if (x->judged && x->verdict == HITHER_HTTP_PARTS)
		x->broken = hither_http_parts_feed(&x->parts, data, len, x->err);
	else if (x->judged)
		x->broken = gather(x, data + skip, len - skip);
	else
		x->ignored += len;
	/* The rest of a small whole resource, or a server that babbles: cheaper to read, up to a
	 * point. */
	return x->broken || x->ignored > IGNORED_BYTES ? 0 : len;
}

/* The connection is up, the request goes out: from here on silence counts as idle. */
int http_on_connected(void *request, char *ip, char *local_ip, int port, int local_port)
{
	struct http_request *x = request;
	x->connected = true;
	x->touched_ns = hither_now_ns();
	if (x->beside) /* the connection was there: nothing had to be looked up */
		http_beside_start(x->beside);
	return CURL_PREREQFUNC_OK;
}

bool http_request_is_unwanted(const struct http_request *x)
{
	return atomic_load(&x->b->cancelled) || (x->dropped && atomic_load(x->dropped)) ||
	       (x->sink && x->sink->dropped && x->sink->dropped(x->sink));
}

static int cancelled(struct http_request *x)
{
	return hither_fail(x->err, -ECANCELED, "http: %s: cancelled", x->question.url);
}

static int idle(struct http_request *x)
{
	return hither_fail(x->err, -ETIMEDOUT,
	                   "http: %s: the server sent nothing for %" PRIu32 " ms (%" PRIu64
	                   " of %" PRIu64
	                   " bytes are here); --idle-timeout sets for how long to wait",
	                   x->question.url, x->b->idle_timeout_ms, x->delivered, x->question.len);
}

/* Milliseconds until the server has been silent for too long; 0: it has. */
static int idle_left_ms(const struct http_request *x)
{
	if (!x->connected)
		return 1000; /* libcurl has a time-out for this part */
	uint64_t patience_ms = complete(x) ? GRACE_MS : x->b->idle_timeout_ms;
	uint64_t end = x->touched_ns + patience_ms * HITHER_NS_PER_MS;
	uint64_t now = hither_now_ns();
	if (now >= end)
		return 0;
	uint64_t ms = (end - now + HITHER_NS_PER_MS - 1) / HITHER_NS_PER_MS;
	return ms < 60000 ? (int)ms : 60000;
}

static int multi_failed(struct http_request *x, CURLMcode code)
{
	return hither_fail(x->err, -ENOMEM, "http: %s: libcurl: %s", x->question.url,
	                   curl_multi_strerror(code));
}

/* Transfer until it ends (x->curl_code) or we end it (x->broken). */
static void transfer(struct http_request *x)
{
	int running = 1, left_ms;
	while (!x->broken) {
		CURLMcode code = curl_multi_perform(x->slot->multi, &running);
		if (!x->broken)
			x->broken = deliver(x);
		if (x->broken || (code == CURLM_OK && !running))
			return;
		left_ms = idle_left_ms(x);
		if (http_request_is_unwanted(x))
			x->broken = cancelled(x);
		else if (left_ms == 0 && complete(x))
			return;
		else if (left_ms == 0)
			x->broken = idle(x);
		else if (code == CURLM_OK)
			code = curl_multi_poll(x->slot->multi, NULL, 0, left_ms, NULL);
		if (code != CURLM_OK)
			x->broken = multi_failed(x, code);
	}
}

static void collect(struct http_request *x)
{
	CURLMsg *message;
	int left;
	long redirects = 0;
	x->curl_code = CURLE_ABORTED_BY_CALLBACK;
	while ((message = curl_multi_info_read(x->slot->multi, &left)))
		if (message->msg == CURLMSG_DONE)
			x->curl_code = message->data.result;
	curl_easy_getinfo(x->slot->easy, CURLINFO_REDIRECT_COUNT, &redirects);
	x->moved = redirects > 0;
}

static void print_ranges(const struct hither_http_question *q, char *out, size_t size)
{
	const struct hither_range one = {q->offset, q->len};
	if (q->last) {
		snprintf(out, size, "-%" PRIu64, q->len);
		return;
	}
	const struct hither_range *ranges = q->ranges ? q->ranges : &one;
	size_t count = q->ranges ? q->count : 1, used = 0;
	for (size_t i = 0; i < count && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%" PRIu64 "-%" PRIu64,
		                         i ? "," : "", ranges[i].offset,
		                         ranges[i].offset + ranges[i].len - 1);
}

static void prepare(struct http_request *x)
{
	CURL *easy = x->slot->easy;
	const struct http_backend *b = x->b;
	bool sign_in = !x->foreign && b->user;
	char range[HTTP_MOST_RANGES * 42];
	print_ranges(&x->question, range, sizeof range);
	curl_easy_setopt(easy, CURLOPT_URL, x->url);
	curl_easy_setopt(easy, CURLOPT_RANGE, range);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, b->http_version);
	curl_easy_setopt(easy, CURLOPT_USERNAME, sign_in ? b->user : NULL);
	curl_easy_setopt(easy, CURLOPT_PASSWORD, sign_in ? b->password : NULL);
	curl_easy_setopt(easy, CURLOPT_NETRC,
	                 sign_in || !b->netrc ? CURL_NETRC_IGNORED : CURL_NETRC_OPTIONAL);
	curl_easy_setopt(easy, CURLOPT_NETRC_FILE, b->netrc);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, x);
	x->question.signed_in = sign_in;
	x->question.now = time(NULL);
	x->touched_ns = hither_now_ns();
	x->slot->curl_message[0] = 0;
	x->slot->gathered = 0;
}

/* What came of it, most telling first: our own decision, the server's answer, libcurl's complaint.
 */
static int conclude(struct http_request *x)
{
	bool whole_answer = x->curl_code == CURLE_OK || x->answer.status >= 400;
	x->unreachable = !x->connected && !x->answer.status;
	if (x->broken)
		return x->broken;
	if (x->answer.ended && whole_answer)
		judge(x);
	if (x->judged && x->verdict < 0)
		return x->verdict;
	bool has_body = x->verdict == HITHER_HTTP_RANGE || x->verdict == HITHER_HTTP_PARTS ||
	                x->verdict == HITHER_HTTP_WHOLE;
	if (x->judged && (!has_body || complete(x)))
		return 0;
	if (x->judged && x->wanted == UINT64_MAX && x->curl_code == CURLE_OK)
		return 0; /* of unknown length, and ended as it should */
	return http_request_fail(x);
}

/* How far the connection's window is open by now; before: by what it had brought. */
static void note_brought(const struct http_request *x, uint64_t before)
{
	struct http_slot *slot = x->slot;
	long connects = 0;
	curl_off_t bytes = 0;
	curl_easy_getinfo(slot->easy, CURLINFO_NUM_CONNECTS, &connects);
	curl_easy_getinfo(slot->easy, CURLINFO_SIZE_DOWNLOAD_T, &bytes);
	slot->brought = (connects ? 0 : before) + (uint64_t)bytes;
	slot->rests_ns = hither_now_ns();
}

int http_request_run(struct http_request *x)
{
	CURLMcode code = CURLM_OK;
	uint64_t brought = http_slot_brought(x->slot);
	http_early_await(x);
	prepare(x);
	if (http_request_is_unwanted(x) ||
	    (code = curl_multi_add_handle(x->slot->multi, x->slot->easy)) != CURLM_OK) {
		http_early_drop(x->slot);
		return http_request_is_unwanted(x) ? cancelled(x) : multi_failed(x, code);
	}
	transfer(x);
	collect(x);
	int r = conclude(x);
	if (r == 0 && x->question.opening)
		http_early_note_peer(x->b, x->slot->easy); /* it is forgotten with the handle */
	x->slot->aborts = x->broken == -ECANCELED;
	curl_multi_remove_handle(x->slot->multi, x->slot->easy);
	x->slot->aborts = false;
	http_early_drop(x->slot);
	x->slot->used = !x->broken; /* else it was cut */
	note_brought(x, brought);
	return r;
}
