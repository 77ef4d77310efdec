/* SPDX-License-Identifier: Apache-2.0 */
/* An export's volumes, options and end. */
#include "base/cleanup.h"
#include "export_internal.h"
#include "mount/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* --- volumes --- */

struct export_volume *export_find(const struct hither_export *e, const void *name, size_t len)
{
	for (size_t i = 0; i < e->volume_count; i++) {
		struct export_volume *v = &e->volumes[i];
		if (strlen(v->name) == len && !memcmp(v->name, name, len))
			return v;
	}
	return len ? NULL : &e->volumes[0]; /* who names none gets the first */
}

static uint16_t flags_of(const struct export_volume *v)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
	                 NBD_FLAG_SEND_CACHE | NBD_FLAG_CAN_MULTI_CONN;
	flags |= v->read_only ? NBD_FLAG_READ_ONLY
	                      : NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
	                                NBD_FLAG_SEND_FAST_ZERO;
	return (uint16_t)flags;
}

static int add_volume(struct hither_export *e, const struct hither_export_volume *from,
                      struct hither_error *err)
{
	struct export_volume *v = &e->volumes[e->volume_count];
	const char *name = from->name ? from->name : "";
	const char *description = from->description ? from->description : "";
	if (strlen(name) > NBD_NAME_BYTES)
		return hither_fail(err, -ENAMETOOLONG, "export: a name of %zu bytes, at most %d",
		                   strlen(name), NBD_NAME_BYTES);
	for (size_t i = 0; i < e->volume_count; i++)
		if (!strcmp(e->volumes[i].name, name))
			return hither_fail(err, -EEXIST, "export: the name \"%s\" is given twice",
			                   name);
	*v = (struct export_volume){
	        .name = strdup(name),
	        .description = strndup(description, NBD_NAME_BYTES),
	        .mount = from->mount,
	        .size_bytes = hither_mount_size(from->mount),
	        .read_only = from->read_only || !hither_mount_writable(from->mount),
	};
	v->flags = flags_of(v);
	v->view = mount_memory_view(v->mount);
	e->volume_count++;
	return v->name && v->description ? 0 : hither_fail(err, -ENOMEM, "export: no memory");
}

uint16_t hither_export_flags(const struct hither_export *e, const char *volume)
{
	const struct export_volume *v = export_find(e, volume, strlen(volume));
	return v ? v->flags : 0;
}

/* --- life --- */

static void default_to(uint32_t *option, uint32_t value)
{
	if (!*option)
		*option = value;
}

static int take_options(struct hither_export *e, const struct hither_export_options *o,
                        struct hither_error *err)
{
	if (o)
		e->options = *o;
	o = &e->options;
	default_to(&e->options.max_connections, 128);
	default_to(&e->options.handshake_ms, 10000);
	default_to(&e->options.connection_bytes, 16 << 20);
	default_to(&e->options.drain_ms, 5000);
	if (o->tls == HITHER_EXPORT_TLS_OFF)
		return o->tls_certificates || o->tls_psk_file
		               ? hither_fail(err, -EINVAL,
		                             "export: TLS is off, but files for it were given")
		               : 0;
	if (!o->tls_certificates && !o->tls_psk_file)
		return hither_fail(err, -EINVAL,
		                   "export: TLS needs a folder of certificates, or a file of keys");
	if (o->tls_verify_peer && !o->tls_certificates)
		return hither_fail(err, -EINVAL,
		                   "export: verifying clients needs a folder of certificates");
	return export_tls_server_create(o, &e->tls, err);
}

int hither_export_create(const struct hither_export_volume *volumes, size_t count,
                         const struct hither_export_options *options, struct hither_export **out,
                         struct hither_error *err)
{
	struct hither_export *e = calloc(1, sizeof *e);
	if (!e)
		return hither_fail(err, -ENOMEM, "export: no memory");
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	e->awake.spinners_max = export_spinners_max();
	e->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->volumes = calloc(count ? count : 1, sizeof *e->volumes);
	int r = 0;
	if (!count)
		r = hither_fail(err, -EINVAL, "export: there is nothing to export");
	else if (e->stop_fd < 0 || !e->volumes)
		r = hither_fail(err, -ENOMEM, "export: no memory or descriptor");
	for (size_t i = 0; i < count && !r; i++)
		r = add_volume(e, &volumes[i], err);
	if (!r)
		r = take_options(e, options, err);
	/* They were borrowed for this call. */
	e->options.tls_certificates = e->options.tls_psk_file = NULL;
	if (r) {
		hither_export_destroy(e);
		return r;
	}
	*out = e;
	return 0;
}

static void end_connections_locked(struct hither_export *e)
{
	for (struct export_connection *c = e->connections; c; c = c->next) {
		atomic_store(&c->ending, true);
		if (c->stream.fd >= 0)
			shutdown(c->stream.fd, SHUT_RD);
		eventfd_write(c->wake_fd, 1);
	}
}

void export_finish_connections(struct hither_export *e)
{
	HITHER_LOCK_SCOPE(&e->lock);
	atomic_store(&e->stopping, true);
	end_connections_locked(e);
	while (e->connections)
		pthread_cond_wait(&e->changed, &e->lock);
}

void hither_export_stop(struct hither_export *e)
{
	uint64_t one = 1;
	atomic_store(&e->stopping, true);
	/* In a signal handler errno is somebody else's. */
	int saved = errno;
	if (write(e->stop_fd, &one, sizeof one) < 0)
		errno = EAGAIN; /* it has been told so often already */
	errno = saved;
}

void hither_export_destroy(struct hither_export *e)
{
	if (!e)
		return;
	export_finish_connections(e);
	export_close_listeners(e);
	export_tls_server_destroy(e->tls);
	for (size_t i = 0; i < e->volume_count; i++) {
		free(e->volumes[i].name);
		free(e->volumes[i].description);
	}
	free(e->volumes);
	if (e->stop_fd >= 0)
		close(e->stop_fd);
	pthread_mutex_destroy(&e->lock);
	pthread_cond_destroy(&e->changed);
	free(e);
}

/* --- the rest --- */

int hither_export_connect(struct hither_export *e, int fd, const char *volume,
                          struct hither_error *err)
{
	struct export_volume *v = NULL;
	int type = 0;
	socklen_t len = sizeof type;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM) {
		close(fd);
		return hither_fail(err, -ENOTSOCK, "export: fd %d is no stream socket", fd);
	}
	if (volume && !(v = export_find(e, volume, strlen(volume)))) {
		close(fd);
		return hither_fail(err, -ENOENT, "export: there is none named \"%s\"", volume);
	}
	return export_connection_start(e, fd, v, err);
}

void hither_export_stats(struct hither_export *e, struct hither_export_stats *out)
{
	HITHER_LOCK_SCOPE(&e->lock);
	*out = e->stats;
	for (struct export_connection *c = e->connections; c; c = c->next)
		export_connection_count(c, out);
}

void export_log(struct hither_export *e, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	if (!e->options.log)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	/* Some of it may have come from a client. */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	e->options.log(e->options.log_user, text);
}
