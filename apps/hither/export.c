/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hither export: make URLs block devices for NBD clients.
 *
 *     main thread      open, listen -> hither_export_serve() ......... -> push the rest, close
 *     control thread   signals, the control socket: the first signal stops the export, the second
 *                      one also the pushing
 */
#include "command.h"
#include "exporter.h"

#include "apart.h"
#include "service.h"
#include "source.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/export.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define FIELD(member) offsetof(struct settings, member)
#define DEFAULT_ADDRESS "localhost:10809" /* NBD's port, and nobody from elsewhere */

/* "unix:PATH" still means the same once the working folder has been left. */
static int add_listen(void *field, const char *value, struct hither_error *err)
{
	AUTO_FREE char *path = NULL, *text = NULL;
	if (strncmp(value, "unix:", 5) || !value[5])
		return add_text(field, value, err);
	path = path_absolute(value + 5);
	if (!path || asprintf(&text, "unix:%s", path) < 0)
		return hither_fail(err, -ENOMEM, "no memory");
	return add_text(field, text, err);
}

static const struct option_spec specs[] = {
        {"listen", 'l', "WHERE",
         "HOST:PORT, [V6]:PORT, :PORT (all addresses) or unix:PATH; may be given several times "
         "(" DEFAULT_ADDRESS ", or the sockets that systemd hands over).",
         add_listen, FIELD(listens)},
        {"name", 'n', "NAME",
         "The export's name (none; of several URLs, their file names); given several times, those "
         "of "
         "the URLs in their order.",
         add_text, FIELD(names)},
        {"foreground", 'f', NULL, "Stay, and show progress; ^C pushes and ends.", set_true,
         FIELD(foreground)},
        {"pid-file", 0, "FILE", "Write the process id to FILE once it is ready.", set_path,
         FIELD(pid_file)},
        {"log", 0, "FILE", "Add what goes wrong later to FILE.", set_path, FIELD(log)},
        {"direct", 'd', NULL, "Keep nothing here: each read and write goes to the resource.",
         set_true, FIELD(mount.direct)},
        {"max-connections", 0, "N", "Turn away more than N clients at a time (128).", set_count,
         FIELD(export.max_connections)},
        {"client-timeout", 0, "DURATION",
         "Drop a client that neither sends nor takes anything for so long (never).", set_ms,
         FIELD(export.idle_ms)},
};
static const struct option_group group = {"Exporting", specs, COUNT_OF(specs)};

static const struct option_spec tls_specs[] = {
        {"tls", 0, "MODE",
         "off; on: for clients that ask; require: for all (require if there are certificates or "
         "keys).",
         set_string, FIELD(tls)},
        {"tls-certificates", 0, "DIR",
         "Folder with server-cert.pem, server-key.pem and ca-cert.pem.", set_path,
         FIELD(tls_certificates)},
        {"tls-verify-peer", 0, NULL, "Only clients with a certificate that ca-cert.pem signed.",
         set_true, FIELD(export.tls_verify_peer)},
        {"tls-psk", 0, "FILE", "Keys of clients: lines of NAME:HEX, as psktool makes them.",
         set_path, FIELD(tls_psk_file)},
};
static const struct option_group tls_group = {"TLS", tls_specs, COUNT_OF(tls_specs)};
static const struct option_group *const groups[] = {
        &group,         &tls_group,       &options_cache, &options_pull,
        &options_write, &options_network, &options_test,  NULL};

/* --- what is given --- */

/* "URL=NAME"; an '=' in a URL's query is the URL's own. */
static int split_argument(struct volume *v, const char *argument)
{
	const char *equals = strrchr(argument, '=');
	if (equals && (strchr(argument, '?') || strchr(equals, '/')))
		equals = NULL;
	AUTO_FREE char *url =
	        strndup(argument, equals ? (size_t)(equals - argument) : strlen(argument));
	v->url = url && *url ? url_absolute(url) : NULL;
	v->shown = v->url ? url_redact(v->url) : NULL;
	v->name = equals ? strdup(equals + 1) : NULL;
	return v->shown ? 0 : -EINVAL;
}

static int name_volumes(struct exporter *x, struct hither_error *err)
{
	char **names = x->settings->names;
	for (size_t i = 0; i < x->count; i++) {
		struct volume *v = &x->volumes[i];
		const char *given = names && *names ? *names++ : NULL;
		if (given && v->name)
			return hither_fail(err, -EINVAL, "%s has a name, and --name %s is another",
			                   v->shown, given);
		if (given)
			v->name = strdup(given);
		else if (!v->name)
			v->name = x->count > 1 ? url_file_name(v->url) : strdup("");
		if (!v->name)
			return hither_fail(err, -ENOMEM, "no memory");
		for (size_t k = 0; k < i; k++)
			if (!strcmp(x->volumes[k].name, v->name))
				return hither_fail(err, -EINVAL,
				                   "two exports are named \"%s\": give --name for "
				                   "each URL",
				                   v->name);
	}
	return names && *names ? hither_fail(err, -EINVAL, "--name %s is for no URL", *names) : 0;
}

static int choose_tls(struct settings *s, struct hither_error *err)
{
	static const char *const modes[] = {"off", "on", "require"};
	bool files = s->tls_certificates || s->tls_psk_file;
	s->export.tls_certificates = s->tls_certificates;
	s->export.tls_psk_file = s->tls_psk_file;
	s->export.tls = files ? HITHER_EXPORT_TLS_REQUIRE : HITHER_EXPORT_TLS_OFF;
	for (size_t i = 0; s->tls && i < COUNT_OF(modes); i++)
		if (!strcmp(s->tls, modes[i])) {
			s->export.tls = (enum hither_export_tls)i;
			if (files != (i > 0))
				return hither_fail(err, -EINVAL, "--tls %s: %s", s->tls,
				                   files ? "but files for TLS were given"
				                         : "it needs --tls-certificates or "
				                           "--tls-psk");
			return 0;
		}
	if (s->tls)
		return hither_fail(err, -EINVAL, "--tls: %s is none of off, on, require", s->tls);
	return 0;
}

static int check(struct exporter *x, char **args, struct hither_error *err)
{
	struct settings *s = x->settings;
	int r = s->wrap ? source_check_layers(s->wrap, err) : 0;
	if (!r)
		r = choose_tls(s, err);
	for (; !r && x->count < MAX_VOLUMES && args[x->count]; x->count++)
		if (split_argument(&x->volumes[x->count], args[x->count]))
			r = hither_fail(err, -EINVAL, "the URL is empty");
	if (!r)
		r = name_volumes(x, err);
	if (!r && x->count > 1 && (s->profile || s->record || s->range_count))
		r = hither_fail(err, -EINVAL,
		                "--profile, --record and --range are for a single URL");
	return r ? r : settings_apply(s, NULL, err);
}

/* --- life --- */

static void log_line(void *user, const char *message)
{
	fprintf(stderr, "hither: %s\n", message);
}

static int open_volumes(struct exporter *x, struct hither_error *err)
{
	for (size_t i = 0; i < x->count; i++) {
		struct volume *v = &x->volumes[i];
		free(x->settings->url);
		x->settings->url = strdup(v->url);
		if (!x->settings->url)
			return hither_fail(err, -ENOMEM, "no memory");
		v->near = source_is_near(x->settings);
		x->settings->mount.direct |= v->near;
		int r = source_open(x->settings, true, &v->mount, err);
		x->settings->mount.direct &= !v->near;
		if (r)
			return r;
	}
	return 0;
}

static int listen_all(struct exporter *x, struct hither_error *err)
{
	int activated = hither_export_listen_activated(x->server, err);
	int r = activated < 0 ? activated : 0;
	for (char **at = x->settings->listens; !r && at && *at; at++)
		r = hither_export_listen(x->server, *at, err);
	if (!r && !activated && !x->settings->listens)
		r = hither_export_listen(x->server, DEFAULT_ADDRESS, err);
	return r;
}

static int start(struct exporter *x, struct hither_error *err)
{
	struct hither_export_volume volumes[MAX_VOLUMES];
	for (size_t i = 0; i < x->count; i++)
		volumes[i] = (struct hither_export_volume){
		        .name = x->volumes[i].name,
		        .description = x->volumes[i].shown,
		        .mount = x->volumes[i].mount,
		        .read_only = x->settings->read_only,
		};
	x->settings->export.log = log_line;
	int r = hither_export_create(volumes, x->count, &x->settings->export, &x->server, err);
	return r ? r : listen_all(x, err);
}

/* "nbd://127.0.0.1:10809/name: 1.0 GB from URL" for each way to each. */
static void describe_start(const struct exporter *x, FILE *out)
{
	char *address, size[UNITS_TEXT_BYTES];
	const char *line = "";
	for (size_t i = 0; i < x->count; i++) {
		const struct volume *v = &x->volumes[i];
		bool written = hither_mount_writable(v->mount) && !x->settings->read_only;
		for (size_t k = 0; (address = exporter_address(x, v, k)); k++) {
			fprintf(out, "%s%s: %s from %s%s", line, address,
			        units_format_size(size, hither_mount_size(v->mount)), v->shown,
			        written ? "" : ", read-only");
			free(address);
			line = "\n";
		}
	}
	fprintf(out, "\n");
}

static int report_ready(const struct exporter *x, struct hither_error *err)
{
	if (x->report_fd < 0) {
		describe_start(x, stdout);
		fflush(stdout);
		return 0;
	}
	FILE *out = fdopen(x->report_fd, "w");
	if (!out)
		return hither_fail(err, -errno, "no memory");
	fputc('+', out);
	describe_start(x, out);
	prctl(PR_SET_PDEATHSIG, 0); /* the parent may end now */
	fclose(out);
	return 0;
}

static int fail(struct exporter *x, const struct hither_error *err)
{
	if (x->report_fd < 0)
		return fail_with(EXIT_FAILED, "%s", err->message);
	dprintf(x->report_fd, "-%s\n", err->message);
	close(x->report_fd);
	return EXIT_FAILED;
}

/* Push what is dirty of one, and close it. text: what could not be pushed, and why. */
static int close_volume(struct exporter *x, struct volume *v, int pushed, struct hither_error *err,
                        char *text, size_t size)
{
	struct hither_mount_stats stats = {0};
	char bytes[UNITS_TEXT_BYTES];
	pthread_mutex_lock(&x->lock);
	struct hither_mount *mount = TAKE(v->mount, NULL);
	pthread_mutex_unlock(&x->lock);
	hither_mount_stats(mount, &stats);
	if (pushed)
		hither_mount_cancel(mount); /* or closing would try for as long again */
	int closed = hither_mount_close(mount, pushed ? NULL : err);
	if (!pushed && !closed)
		return 0;
	snprintf(text, size, "%s: %s; %s not pushed %s", v->shown, err->message,
	         units_format_size(bytes, stats.dirty_bytes),
	         x->settings->mount.cache_dir && !x->settings->mount.direct && !v->near
	                 ? "are kept in the cache: use the same URL again to push them"
	                 : "are lost, there was no cache on disk");
	return -EIO;
}

/* Not under the lock: a second signal must be able to cut a push short. */
static int close_volumes(struct exporter *x, char *text, size_t size)
{
	struct hither_error errs[MAX_VOLUMES] = {0};
	int pushed[MAX_VOLUMES] = {0}, code = EXIT_DONE;
	for (size_t i = 0; i < x->count; i++)
		if (x->volumes[i].mount && hither_mount_writable(x->volumes[i].mount))
			pushed[i] = hither_mount_push(x->volumes[i].mount, &errs[i]);
	for (size_t i = 0; puller_runs(&x->puller) && i < x->count; i++)
		if (x->volumes[i].mount)
			hither_mount_cancel(
			        x->volumes[i].mount); /* all is pushed, as far as it goes */
	puller_stop(&x->puller);
	for (size_t i = 0; i < x->count; i++)
		if (x->volumes[i].mount &&
		    close_volume(x, &x->volumes[i], pushed[i], &errs[i], text, size))
			code = fail_with(EXIT_FAILED, "%s", text);
	return code;
}

static void set_over(struct exporter *x)
{
	pthread_mutex_lock(&x->lock);
	x->serving = false;
	x->over = true;
	pthread_mutex_unlock(&x->lock);
}

static int begin(struct exporter *x, struct hither_error *err)
{
	int r = runtime_enter(&x->entry, err);
	if (!r)
		r = exporter_control(x, err);
	if (!r)
		r = open_volumes(x, err);
	if (!r)
		r = start(x, err);
	if (!r)
		r = service_write_pid(x->settings, err);
	if (!r)
		r = service_leave_terminal(x->settings, x->entry.log_fd, err);
	if (!r)
		r = exporter_publish(x, err);
	return r ? r : report_ready(x, err);
}

static int serve(struct exporter *x)
{
	struct hither_error err = {0};
	char text[1024] = "";
	x->started_at = (int64_t)time(NULL);
	int r = begin(x, &err);
	int code = r ? fail(x, &err) : EXIT_DONE;
	if (!r && hither_export_serve(x->server, &err)) {
		snprintf(text, sizeof text, "%s", err.message);
		code = fail_with(EXIT_FAILED, "%s", text);
	}
	set_over(x);
	hither_export_destroy(x->server);
	int closed = close_volumes(x, text, sizeof text);
	bool heard = control_finish(x->control, text, x->forced && closed);
	/* Whoever looks for what is kept must find it here. */
	runtime_leave(&x->entry, !r && closed && (x->forced || !heard));
	if (!r && x->settings->pid_file)
		unlink(x->settings->pid_file);
	return code ? code : x->forced && heard ? EXIT_DONE : closed;
}

static void finish(struct exporter *x)
{
	for (size_t i = 0; i < COUNT_OF(x->volumes); i++) {
		free(x->volumes[i].url);
		free(x->volumes[i].shown);
		free(x->volumes[i].name);
	}
	free(x->addresses);
	free(x->urls);
	pthread_mutex_destroy(&x->lock);
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct exporter x = {.settings = s,
	                     .report_fd = -1,
	                     .entry = {.folder_fd = -1, .info_fd = -1, .log_fd = -1},
	                     .lock = PTHREAD_MUTEX_INITIALIZER};
	int code;
	if (check(&x, args, &err)) {
		code = fail_with(EXIT_MISUSED, "export: %s", err.message);
	} else {
		for (size_t i = 0; i < x.count; i++)
			options_hide(args[i]);
		/* Sockets that systemd hands over are for this very process. */
		s->foreground |= getenv("LISTEN_FDS") != NULL;
		code = s->foreground ? -1 : apart_begin(&x.report_fd);
		if (code < 0)
			code = serve(&x);
	}
	finish(&x);
	return code;
}

const struct command command_export = {
        .name = "export",
        .usage = "[OPTIONS] URL[=NAME]...",
        .summary = "offer URLs to NBD clients",
        .text = "Offer each URL by NAME to NBD clients: the kernel, QEMU, libnbd, another hither.\n"
                "What they read comes first, the rest follows in the background, and what they\n"
                "write is pushed back. Returns when clients can connect. hither status lists it;\n"
                "hither umount nbd://HOST:PORT/NAME (as printed) or SIGTERM ends it.",
        .groups = groups,
        .min_args = 1,
        .max_args = MAX_VOLUMES,
        .run = run,
};
