/* SPDX-License-Identifier: Apache-2.0 */
#include "exporter.h"

#include "json.h"
#include "progress.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- what others see, and want --- */

char *exporter_address(const struct exporter *x, const struct volume *v, size_t k)
{
	const char *tls = x->settings->export.tls ? "s" : "";
	const char *address = hither_export_address(x->server, k);
	char *url = NULL;
	if (!address)
		return NULL;
	int r = strncmp(address, "unix:", 5)
	                ? asprintf(&url, "nbd%s://%s/%s", tls, address, v->name)
	                : asprintf(&url, "nbd%s+unix:///%s?socket=%s", tls, v->name, address + 5);
	return r < 0 ? NULL : url;
}

static int name_all(struct exporter *x, struct hither_error *err)
{
	size_t size;
	char *address;
	FILE *addresses = open_memstream(&x->addresses, &size);
	FILE *urls = addresses ? open_memstream(&x->urls, &size) : NULL;
	for (size_t i = 0; urls && i < x->count; i++) {
		fprintf(urls, "%s%s", i ? ", " : "", x->volumes[i].shown);
		for (size_t k = 0; (address = exporter_address(x, &x->volumes[i], k)); k++) {
			fprintf(addresses, "%s%s", i || k ? "\n" : "", address);
			free(address);
		}
	}
	int r = (urls ? fclose(urls) : -1) | (addresses ? fclose(addresses) : -1);
	return r ? hither_fail(err, -ENOMEM, "no memory") : 0;
}

static bool any_writable(const struct exporter *x)
{
	for (size_t i = 0; i < x->count; i++)
		if (x->volumes[i].mount && hither_mount_writable(x->volumes[i].mount))
			return true;
	return false;
}

static void describe_place(const struct exporter *x, struct json *j)
{
	AUTO_FREE char *first = strndup(x->addresses, strcspn(x->addresses, "\n"));
	const struct hither_mount_options *o = &x->settings->mount;
	bool direct = true;
	for (size_t i = 0; i < x->count; i++)
		direct &= o->direct || x->volumes[i].near;
	json_int(j, "pid", x->entry.pid);
	json_string(j, "kind", "export");
	json_string(j, "path", first);
	json_string(j, "addresses", x->addresses);
	json_string(j, "url", x->urls);
	json_string(j, "cache", direct ? "direct" : o->cache_dir ? o->cache_dir : "memory");
	json_bool(j, "writable", any_writable(x) && !x->settings->read_only);
	json_int(j, "started_at", x->started_at);
}

static void add_stats(struct hither_mount_stats *sum, const struct hither_mount_stats *s)
{
	sum->size_bytes += s->size_bytes;
	sum->local_bytes += s->local_bytes;
	sum->dirty_bytes += s->dirty_bytes;
	sum->pulled_bytes += s->pulled_bytes;
	sum->demand_bytes += s->demand_bytes;
	sum->pushed_bytes += s->pushed_bytes;
	sum->pull_requests += s->pull_requests;
	sum->push_requests += s->push_requests;
	sum->retries += s->retries;
	sum->reads += s->reads;
	sum->reads_waited += s->reads_waited;
	sum->wait_ns += s->wait_ns;
	sum->reads_stalled += s->reads_stalled;
	sum->writes += s->writes;
	sum->evicted_bytes += s->evicted_bytes;
	sum->waiting += s->waiting;
	sum->in_flight += s->in_flight;
	if (s->rtt_ns > sum->rtt_ns)
		sum->rtt_ns = s->rtt_ns;
	sum->rate_bytes += s->rate_bytes;
	if (!s->error || sum->error)
		return;
	sum->error = s->error;
	memcpy(sum->message, s->message, sizeof sum->message);
}

/* Of all volumes together. */
static bool stats_locked(const struct exporter *x, struct hither_mount_stats *out)
{
	bool any = false;
	*out = (struct hither_mount_stats){0};
	for (size_t i = 0; i < x->count; i++) {
		struct hither_mount_stats one;
		if (!x->volumes[i].mount)
			continue;
		hither_mount_stats(x->volumes[i].mount, &one);
		add_stats(out, &one);
		any = true;
	}
	return any;
}

static bool stats(void *user, struct hither_mount_stats *out)
{
	struct exporter *x = user;
	pthread_mutex_lock(&x->lock);
	bool any = stats_locked(x, out);
	pthread_mutex_unlock(&x->lock);
	return any;
}

static void describe(void *user, struct json *j)
{
	struct exporter *x = user;
	struct hither_export_stats clients = {0};
	struct hither_mount_stats sum;
	pthread_mutex_lock(&x->lock);
	stats_locked(x, &sum);
	if (x->serving)
		hither_export_stats(x->server, &clients);
	json_object(j, NULL);
	describe_place(x, j);
	json_string(j, "state", x->serving ? "exported" : "ending");
	json_uint(j, "clients", clients.connected);
	json_uint(j, "client_requests", clients.requests);
	progress_stats(j, &sum);
	json_end_object(j);
	pthread_mutex_unlock(&x->lock);
}

/* Clients are not asked: who ends an export ends it. */
static void end(void *user, bool lazy, bool force, bool signal)
{
	struct exporter *x = user;
	pthread_mutex_lock(&x->lock);
	x->forced |= force;
	if (!x->over)
		hither_export_stop(x->server);
	for (size_t i = 0; force && i < x->count; i++)
		if (x->volumes[i].mount)
			hither_mount_cancel(x->volumes[i].mount);
	pthread_mutex_unlock(&x->lock);
}

/* It is just being opened: nothing can be lost. */
static bool abandon(void *user)
{
	struct exporter *x = user;
	pthread_mutex_lock(&x->lock);
	bool opening = !x->serving && !x->over;
	if (opening)
		runtime_leave(&x->entry, false);
	pthread_mutex_unlock(&x->lock);
	return opening;
}

static void pulled(void *user, const char *message)
{
	struct exporter *x = user;
	control_pulled(x->control, message);
}

static int pull(void *user, struct hither_error *err)
{
	struct exporter *x = user;
	pthread_mutex_lock(&x->lock);
	int r = x->serving ? puller_begin(&x->puller, err)
	                   : hither_fail(err, -ENOTCONN, "the export is ending");
	pthread_mutex_unlock(&x->lock);
	return r;
}

int exporter_control(struct exporter *x, struct hither_error *err)
{
	static const struct control_ops ops = {
	        .describe = describe, .stats = stats, .end = end, .abandon = abandon, .pull = pull};
	const struct control_owner owner = {.ops = &ops,
	                                    .user = x,
	                                    .foreground = x->settings->foreground,
	                                    .progress_fd = -1,
	                                    .ending = "ending"};
	return control_start(&owner, &x->control, err);
}

int exporter_publish(struct exporter *x, struct hither_error *err)
{
	AUTO_JSON struct json j = {0};
	int listen_fd = -1;
	int r = name_all(x, err);
	if (r)
		return r;
	json_object(&j, NULL);
	describe_place(x, &j);
	json_end_object(&j);
	json_text(&j, "\n");
	if (j.failed)
		return hither_fail(err, -ENOMEM, "no memory");
	r = runtime_listen(&x->entry, &listen_fd, err);
	if (!r)
		r = runtime_publish(&x->entry, j.text, err);
	if (r && listen_fd >= 0)
		close(listen_fd);
	if (r)
		return r;
	runtime_supersede(&x->entry);
	for (size_t i = 0; i < x->count; i++)
		x->pulls[i] = x->volumes[i].mount;
	x->puller =
	        (struct puller){.mounts = x->pulls, .count = x->count, .over = pulled, .user = x};
	pthread_mutex_lock(&x->lock);
	x->serving = true;
	pthread_mutex_unlock(&x->lock);
	control_serve(x->control, listen_fd);
	return 0;
}
