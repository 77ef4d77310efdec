/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the kernel may not have its own faults answered (an unprivileged process), a system call
 * that meets a page of the pool that is not here fails with EFAULT. So what is read and written
 * goes through a small buffer: copying is done by the program's own thread, which may fault.
 */
#include "hook.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 << 10 };

/* Read again after a whole piece: only where that cannot block while there is something to give. */
static bool goes_on(int fd)
{
	struct stat st;
	return !fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

/* One system call for a piece of the buffer; `done` bytes went before. */
typedef ssize_t piece_fn(void *call, void *buf, size_t len, size_t done);

static ssize_t bounce_in(piece_fn *get, void *call, void *buf, size_t len, bool again)
{
	size_t done = 0;
	void *piece = __libc_malloc(len < PIECE_BYTES ? len + 1 : PIECE_BYTES);
	if (!piece)
		return errno = ENOMEM, -1;
	ssize_t n = 0;
	do {
		size_t want = len - done < PIECE_BYTES ? len - done : PIECE_BYTES;
		n = get(call, piece, want, done);
		if (n <= 0)
			break;
		size_t got = (size_t)n < want ? (size_t)n : want; /* MSG_TRUNC tells more */
		memcpy((char *)buf + done, piece, got);
		done += got;
		if (got < want)
			break;
	} while (again && done < len);
	int saved = errno;
	__libc_free(piece);
	errno = saved;
	return done ? (ssize_t)done : n;
}

static ssize_t bounce_out(piece_fn *put, void *call, const void *buf, size_t len)
{
	size_t done = 0;
	void *piece = __libc_malloc(len < PIECE_BYTES ? len + 1 : PIECE_BYTES);
	if (!piece)
		return errno = ENOMEM, -1;
	ssize_t n = 0;
	while (done < len) {
		size_t want = len - done < PIECE_BYTES ? len - done : PIECE_BYTES;
		memcpy(piece, (const char *)buf + done, want);
		n = put(call, piece, want, done);
		if (n > 0)
			done += (size_t)n;
		if (n < (ssize_t)want)
			break;
	}
	int saved = errno;
	__libc_free(piece);
	errno = saved;
	return done ? (ssize_t)done : n;
}

/* --- files --- */

struct file_call {
	int fd;
	off_t offset;
	ssize_t (*read)(int fd, void *buf, size_t len);
	ssize_t (*pread)(int fd, void *buf, size_t len, off_t offset);
	ssize_t (*write)(int fd, const void *buf, size_t len);
	ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t offset);
};

static ssize_t file_get(void *call, void *buf, size_t len, size_t done)
{
	const struct file_call *c = call;
	return c->read ? c->read(c->fd, buf, len)
	               : c->pread(c->fd, buf, len, c->offset + (off_t)done);
}

static ssize_t file_put(void *call, void *buf, size_t len, size_t done)
{
	const struct file_call *c = call;
	return c->write ? c->write(c->fd, buf, len)
	                : c->pwrite(c->fd, buf, len, c->offset + (off_t)done);
}

HOOK ssize_t read(int fd, void *buf, size_t len)
{
	REAL(read, -1);
	struct file_call c = {.fd = fd, .read = real};
	return hook_must_bounce(buf) ? bounce_in(file_get, &c, buf, len, goes_on(fd))
	                             : real(fd, buf, len);
}

HOOK ssize_t write(int fd, const void *buf, size_t len)
{
	REAL(write, -1);
	struct file_call c = {.fd = fd, .write = real};
	return hook_must_bounce(buf) ? bounce_out(file_put, &c, buf, len) : real(fd, buf, len);
}

HOOK ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	REAL(pread, -1);
	struct file_call c = {.fd = fd, .offset = offset, .pread = real};
	return hook_must_bounce(buf) ? bounce_in(file_get, &c, buf, len, goes_on(fd))
	                             : real(fd, buf, len, offset);
}

HOOK ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	REAL(pwrite, -1);
	struct file_call c = {.fd = fd, .offset = offset, .pwrite = real};
	return hook_must_bounce(buf) ? bounce_out(file_put, &c, buf, len)
	                             : real(fd, buf, len, offset);
}

ssize_t pread64(int fd, void *buf, size_t len, off_t offset);
ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset);

HOOK ssize_t pread64(int fd, void *buf, size_t len, off_t offset)
{
	return pread(fd, buf, len, offset);
}

HOOK ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	return pwrite(fd, buf, len, offset);
}

static bool any_must_bounce(const struct iovec *v, int count)
{
	for (int i = 0; i < count; i++)
		if (hook_must_bounce(v[i].iov_base))
			return true;
	return false;
}

/* One after another: what is read or written is the same, but not in one step. */
HOOK ssize_t readv(int fd, const struct iovec *v, int count)
{
	REAL(readv, -1);
	ssize_t all = 0;
	if (count <= 0 || !any_must_bounce(v, count))
		return real(fd, v, count);
	for (int i = 0; i < count; i++) {
		ssize_t n = read(fd, v[i].iov_base, v[i].iov_len);
		if (n < 0)
			return all ? all : -1;
		all += n;
		if ((size_t)n < v[i].iov_len || !goes_on(fd))
			break;
	}
	return all;
}

HOOK ssize_t writev(int fd, const struct iovec *v, int count)
{
	REAL(writev, -1);
	ssize_t all = 0;
	if (count <= 0 || !any_must_bounce(v, count))
		return real(fd, v, count);
	for (int i = 0; i < count; i++) {
		ssize_t n = write(fd, v[i].iov_base, v[i].iov_len);
		if (n < 0)
			return all ? all : -1;
		all += n;
		if ((size_t)n < v[i].iov_len)
			break;
	}
	return all;
}

/* --- sockets --- */

struct socket_call {
	int fd, flags;
	struct sockaddr *from;
	socklen_t *from_len;
	const struct sockaddr *to;
	socklen_t to_len;
	ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
	ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
};

static ssize_t socket_get(void *call, void *buf, size_t len, size_t done)
{
	const struct socket_call *c = call;
	return c->recvfrom(c->fd, buf, len, c->flags, c->from, c->from_len);
}

static ssize_t socket_put(void *call, void *buf, size_t len, size_t done)
{
	const struct socket_call *c = call;
	return c->sendto(c->fd, buf, len, c->flags, c->to, c->to_len);
}

HOOK ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
                      socklen_t *from_len)
{
	REAL(recvfrom, -1);
	struct socket_call c = {
	        .fd = fd, .flags = flags, .from = from, .from_len = from_len, .recvfrom = real};
	bool whole = flags & MSG_WAITALL && !(flags & MSG_PEEK);
	return hook_must_bounce(buf) ? bounce_in(socket_get, &c, buf, len, whole)
	                             : real(fd, buf, len, flags, from, from_len);
}

HOOK ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	return recvfrom(fd, buf, len, flags, NULL, NULL);
}

HOOK ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
                    socklen_t to_len)
{
	REAL(sendto, -1);
	struct socket_call c = {
	        .fd = fd, .flags = flags, .to = to, .to_len = to_len, .sendto = real};
	return hook_must_bounce(buf) ? bounce_out(socket_put, &c, buf, len)
	                             : real(fd, buf, len, flags, to, to_len);
}

HOOK ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	return sendto(fd, buf, len, flags, NULL, 0);
}

#undef fread_unlocked /* stdio.h has macros of these names */
#undef fwrite_unlocked

/* --- stdio, which reads large pieces straight into the caller's buffer --- */

struct stdio_call {
	FILE *file;
	size_t (*fread)(void *, size_t, size_t, FILE *);
	size_t (*fwrite)(const void *, size_t, size_t, FILE *);
};

static ssize_t stdio_get(void *call, void *buf, size_t len, size_t done)
{
	const struct stdio_call *c = call;
	return (ssize_t)c->fread(buf, 1, len, c->file);
}

static ssize_t stdio_put(void *call, void *buf, size_t len, size_t done)
{
	const struct stdio_call *c = call;
	return (ssize_t)c->fwrite(buf, 1, len, c->file);
}

static size_t stdio_in(size_t (*real)(void *, size_t, size_t, FILE *), void *buf, size_t size,
                       size_t count, FILE *file)
{
	struct stdio_call c = {.file = file, .fread = real};
	size_t all;
	if (!hook_must_bounce(buf) || __builtin_mul_overflow(size, count, &all) || !all)
		return real(buf, size, count, file);
	ssize_t n = bounce_in(stdio_get, &c, buf, all, true);
	return n < 0 ? 0 : (size_t)n / size;
}

static size_t stdio_out(size_t (*real)(const void *, size_t, size_t, FILE *), const void *buf,
                        size_t size, size_t count, FILE *file)
{
	struct stdio_call c = {.file = file, .fwrite = real};
	size_t all;
	if (!hook_must_bounce(buf) || __builtin_mul_overflow(size, count, &all) || !all)
		return real(buf, size, count, file);
	ssize_t n = bounce_out(stdio_put, &c, buf, all);
	return n < 0 ? 0 : (size_t)n / size;
}

HOOK size_t fread(void *buf, size_t size, size_t count, FILE *file)
{
	REAL(fread, 0);
	return stdio_in(real, buf, size, count, file);
}

HOOK size_t fwrite(const void *buf, size_t size, size_t count, FILE *file)
{
	REAL(fwrite, 0);
	return stdio_out(real, buf, size, count, file);
}

HOOK size_t fread_unlocked(void *buf, size_t size, size_t count, FILE *file)
{
	REAL(fread_unlocked, 0);
	return stdio_in(real, buf, size, count, file);
}

HOOK size_t fwrite_unlocked(const void *buf, size_t size, size_t count, FILE *file)
{
	REAL(fwrite_unlocked, 0);
	return stdio_out(real, buf, size, count, file);
}

/* What _FORTIFY_SOURCE makes of them; room was checked by the caller's compiler for its own sake.
 */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t room);
ssize_t __pread64_chk(int fd, void *buf, size_t len, off_t offset, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags);
size_t __fread_chk(void *buf, size_t room, size_t size, size_t count, FILE *file);
size_t __fread_unlocked_chk(void *buf, size_t room, size_t size, size_t count, FILE *file);

static void check_room(size_t len, size_t room)
{
	if (len > room)
		__builtin_trap();
}

HOOK ssize_t __read_chk(int fd, void *buf, size_t len, size_t room)
{
	check_room(len, room);
	return read(fd, buf, len);
}

HOOK ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t room)
{
	check_room(len, room);
	return pread(fd, buf, len, offset);
}

HOOK ssize_t __pread64_chk(int fd, void *buf, size_t len, off_t offset, size_t room)
{
	check_room(len, room);
	return pread(fd, buf, len, offset);
}

HOOK ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags)
{
	check_room(len, room);
	return recv(fd, buf, len, flags);
}

HOOK size_t __fread_chk(void *buf, size_t room, size_t size, size_t count, FILE *file)
{
	size_t all;
	if (!__builtin_mul_overflow(size, count, &all))
		check_room(all, room);
	return fread(buf, size, count, file);
}

HOOK size_t __fread_unlocked_chk(void *buf, size_t room, size_t size, size_t count, FILE *file)
{
	size_t all;
	if (!__builtin_mul_overflow(size, count, &all))
		check_room(all, room);
	return fread_unlocked(buf, size, count, file);
}
