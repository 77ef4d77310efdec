/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libnbd that we call, by its own header. The library itself is loaded when the
 * first URL is opened (base/library.h).
 */
/* Ours alone: a program that links libnbd itself keeps its own. */
#pragma GCC visibility push(hidden)
#include <libnbd.h>
#pragma GCC visibility pop

#include "backend/nbd_conn.h"
#include "base/library.h"

#define FUNCTIONS(F)                                                                               \
	F(nbd_aio_command_completed)                                                               \
	F(nbd_aio_connect_uri)                                                                     \
	F(nbd_aio_disconnect)                                                                      \
	F(nbd_aio_flush)                                                                           \
	F(nbd_aio_get_direction)                                                                   \
	F(nbd_aio_get_fd)                                                                          \
	F(nbd_aio_is_closed)                                                                       \
	F(nbd_aio_is_connecting)                                                                   \
	F(nbd_aio_is_dead)                                                                         \
	F(nbd_aio_is_negotiating)                                                                  \
	F(nbd_aio_is_ready)                                                                        \
	F(nbd_aio_notify_read)                                                                     \
	F(nbd_aio_notify_write)                                                                    \
	F(nbd_aio_pread)                                                                           \
	F(nbd_aio_pwrite)                                                                          \
	F(nbd_can_flush)                                                                           \
	F(nbd_can_fua)                                                                             \
	F(nbd_can_multi_conn)                                                                      \
	F(nbd_close)                                                                               \
	F(nbd_create)                                                                              \
	F(nbd_get_block_size)                                                                      \
	F(nbd_get_errno)                                                                           \
	F(nbd_get_error)                                                                           \
	F(nbd_get_size)                                                                            \
	F(nbd_is_read_only)                                                                        \
	F(nbd_set_pread_initialize)                                                                \
	F(nbd_set_tls_certificates)                                                                \
	F(nbd_set_tls_verify_peer)                                                                 \
	F(nbd_set_uri_allow_local_file)

HITHER_LIBRARY_FUNCTIONS(FUNCTIONS);

int nbd_load_library(struct hither_error *err)
{
	static const char *const files[] = {"libnbd.so.0", NULL};
	static struct hither_library library = {.files = files,
	                                        .package = "libnbd0",
	                                        .symbols = symbols,
	                                        .symbol_count = sizeof symbols / sizeof *symbols};
	return hither_library_load(&library, err);
}

int nbd_aio_command_completed(struct nbd_handle *h, uint64_t cookie)
{
	return real.nbd_aio_command_completed(h, cookie);
}

int nbd_aio_connect_uri(struct nbd_handle *h, const char *uri)
{
	return real.nbd_aio_connect_uri(h, uri);
}

int nbd_aio_disconnect(struct nbd_handle *h, uint32_t flags)
{
	return real.nbd_aio_disconnect(h, flags);
}

int64_t nbd_aio_flush(struct nbd_handle *h, nbd_completion_callback completion_callback,
                      uint32_t flags)
{
	return real.nbd_aio_flush(h, completion_callback, flags);
}

unsigned nbd_aio_get_direction(struct nbd_handle *h)
{
	return real.nbd_aio_get_direction(h);
}

int nbd_aio_get_fd(struct nbd_handle *h)
{
	return real.nbd_aio_get_fd(h);
}

int nbd_aio_is_closed(struct nbd_handle *h)
{
	return real.nbd_aio_is_closed(h);
}

int nbd_aio_is_connecting(struct nbd_handle *h)
{
	return real.nbd_aio_is_connecting(h);
}

int nbd_aio_is_dead(struct nbd_handle *h)
{
	return real.nbd_aio_is_dead(h);
}

int nbd_aio_is_negotiating(struct nbd_handle *h)
{
	return real.nbd_aio_is_negotiating(h);
}

int nbd_aio_is_ready(struct nbd_handle *h)
{
	return real.nbd_aio_is_ready(h);
}

int nbd_aio_notify_read(struct nbd_handle *h)
{
	return real.nbd_aio_notify_read(h);
}

int nbd_aio_notify_write(struct nbd_handle *h)
{
	return real.nbd_aio_notify_write(h);
}

int64_t nbd_aio_pread(struct nbd_handle *h, void *buf, size_t count, uint64_t offset,
                      nbd_completion_callback completion_callback, uint32_t flags)
{
	return real.nbd_aio_pread(h, buf, count, offset, completion_callback, flags);
}

int64_t nbd_aio_pwrite(struct nbd_handle *h, const void *buf, size_t count, uint64_t offset,
                       nbd_completion_callback completion_callback, uint32_t flags)
{
	return real.nbd_aio_pwrite(h, buf, count, offset, completion_callback, flags);
}

int nbd_can_flush(struct nbd_handle *h)
{
	return real.nbd_can_flush(h);
}

int nbd_can_fua(struct nbd_handle *h)
{
	return real.nbd_can_fua(h);
}

int nbd_can_multi_conn(struct nbd_handle *h)
{
	return real.nbd_can_multi_conn(h);
}

void nbd_close(struct nbd_handle *h)
{
	real.nbd_close(h);
}

struct nbd_handle *nbd_create(void)
{
	return real.nbd_create();
}

int64_t nbd_get_block_size(struct nbd_handle *h, int size_type)
{
	return real.nbd_get_block_size(h, size_type);
}

int nbd_get_errno(void)
{
	return real.nbd_get_errno();
}

const char *nbd_get_error(void)
{
	return real.nbd_get_error();
}

int64_t nbd_get_size(struct nbd_handle *h)
{
	return real.nbd_get_size(h);
}

int nbd_is_read_only(struct nbd_handle *h)
{
	return real.nbd_is_read_only(h);
}

int nbd_set_pread_initialize(struct nbd_handle *h, bool request)
{
	return real.nbd_set_pread_initialize(h, request);
}

int nbd_set_tls_certificates(struct nbd_handle *h, const char *dir)
{
	return real.nbd_set_tls_certificates(h, dir);
}

int nbd_set_tls_verify_peer(struct nbd_handle *h, bool verify)
{
	return real.nbd_set_tls_verify_peer(h, verify);
}

int nbd_set_uri_allow_local_file(struct nbd_handle *h, bool allow)
{
	return real.nbd_set_uri_allow_local_file(h, allow);
}
