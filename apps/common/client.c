/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include "progress.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OUT_BYTES = 16384 };

void client_drop(struct client *cl)
{
	if (cl->fd >= 0)
		close(cl->fd);
	free(cl->out);
	*cl = (struct client){.fd = -1};
}

void client_flush(struct client *cl)
{
	while (cl->out_len) {
		ssize_t n = send(cl->fd, cl->out, cl->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			client_drop(cl);
			return;
		}
		memmove(cl->out, cl->out + n, cl->out_len - (size_t)n);
		cl->out_len -= (size_t)n;
		cl->since_ns = now_ns();
	}
	if (cl->closes)
		client_drop(cl);
}

void client_say(struct client *cl, struct json *j)
{
	json_text(j, "\n");
	char *out = j->failed || cl->out_len + j->len > OUT_BYTES
	                    ? NULL
	                    : realloc(cl->out, cl->out_len + j->len);
	if (!out) {
		client_drop(cl);
		return;
	}
	memcpy(out + cl->out_len, j->text, j->len);
	cl->out = out;
	cl->out_len += j->len;
	client_flush(cl);
}

void client_say_event(struct client *cl, const char *event, const char *message, bool forced)
{
	AUTO_JSON struct json j = {0};
	json_object(&j, NULL);
	json_string(&j, "event", event);
	if (*message)
		json_string(&j, "message", message);
	if (forced)
		json_bool(&j, "forced", true);
	json_end_object(&j);
	client_say(cl, &j);
}

void client_say_progress(struct client *cl, const struct hither_mount_stats *stats)
{
	AUTO_JSON struct json j = {0};
	if (cl->out_len)
		return; /* it has not read the last one yet */
	json_object(&j, NULL);
	json_string(&j, "event", "progress");
	progress_stats(&j, stats);
	json_end_object(&j);
	client_say(cl, &j);
}
