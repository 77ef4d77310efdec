/* SPDX-License-Identifier: Apache-2.0 */
/* A build without GnuTLS: no server can be made, and so no stream has TLS. */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>

int export_tls_server_create(const struct hither_export_options *options,
                             struct export_tls_server **out, struct hither_error *err)
{
	return hither_fail(err, -ENOTSUP, "export: this build has no TLS (it needs GnuTLS)");
}

void export_tls_server_destroy(struct export_tls_server *server)
{
}

int export_tls_start(struct export_stream *s, struct export_tls_server *server,
                     struct hither_error *err)
{
	return hither_fail(err, -ENOTSUP, "export: this build has no TLS (it needs GnuTLS)");
}

int export_tls_handshake(struct export_stream *s, struct hither_error *err)
{
	abort();
}

void export_tls_finish(struct export_stream *s)
{
	abort();
}

ssize_t export_tls_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait)
{
	abort();
}

ssize_t export_tls_send(struct export_stream *s, const struct iovec *parts, int count)
{
	abort();
}

int export_tls_flush(struct export_stream *s)
{
	abort();
}
