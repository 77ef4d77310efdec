/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/block/netlink.h"

#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

static struct nlmsghdr *head_of(struct block_netlink *n)
{
	return (struct nlmsghdr *)(void *)n->buf;
}

static void begin(struct block_netlink *n, uint16_t type, uint8_t command, uint8_t version)
{
	memset(n->buf, 0, NLMSG_HDRLEN + GENL_HDRLEN);
	head_of(n)->nlmsg_type = type;
	head_of(n)->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	head_of(n)->nlmsg_seq = ++n->sequence;
	struct genlmsghdr genl = {.cmd = command, .version = version};
	memcpy(n->buf + NLMSG_HDRLEN, &genl, sizeof genl);
	n->len = NLMSG_HDRLEN + GENL_HDRLEN;
}

void block_netlink_begin(struct block_netlink *n, uint8_t command, uint8_t version)
{
	begin(n, n->family, command, version);
}

void block_netlink_put(struct block_netlink *n, uint16_t type, const void *data, size_t len)
{
	struct nlattr attr = {.nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = type};
	size_t whole = NLA_HDRLEN + NLA_ALIGN(len);
	assert(n->len + whole <= sizeof n->buf); /* our messages are small */
	memset(n->buf + n->len, 0, whole);
	memcpy(n->buf + n->len, &attr, sizeof attr);
	if (len)
		memcpy(n->buf + n->len + NLA_HDRLEN, data, len);
	n->len += whole;
}

void block_netlink_put32(struct block_netlink *n, uint16_t type, uint32_t value)
{
	block_netlink_put(n, type, &value, sizeof value);
}

void block_netlink_put64(struct block_netlink *n, uint16_t type, uint64_t value)
{
	block_netlink_put(n, type, &value, sizeof value);
}

size_t block_netlink_nest(struct block_netlink *n, uint16_t type)
{
	size_t at = n->len;
	block_netlink_put(n, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void block_netlink_nest_end(struct block_netlink *n, size_t at)
{
	uint16_t len = (uint16_t)(n->len - at);
	memcpy(n->buf + at + offsetof(struct nlattr, nla_len), &len, sizeof len);
}

/* The kernel answers with a message, or none, and then an acknowledgement. */
static int receive(struct block_netlink *n)
{
	_Alignas(8) uint8_t in[NETLINK_BYTES];
	for (;;) {
		ssize_t got = recv(n->fd, in, sizeof in, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		unsigned left = (unsigned)got;
		for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)in; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_seq != n->sequence)
				continue; /* of an earlier call */
			if (h->nlmsg_type == NLMSG_ERROR) {
				struct nlmsgerr answer;
				memcpy(&answer, NLMSG_DATA(h), sizeof answer);
				return answer.error;
			}
			memcpy(n->buf, h, h->nlmsg_len);
			n->len = h->nlmsg_len;
		}
	}
}

int block_netlink_call(struct block_netlink *n)
{
	head_of(n)->nlmsg_len = (uint32_t)n->len;
	ssize_t sent = send(n->fd, n->buf, n->len, 0);
	n->len = 0;
	return sent < 0 ? -errno : receive(n);
}

const void *block_netlink_find(const struct block_netlink *n, uint16_t type, size_t size)
{
	struct nlattr attr;
	for (size_t at = NLMSG_HDRLEN + GENL_HDRLEN; at + sizeof attr <= n->len;
	     at += NLA_ALIGN(attr.nla_len)) {
		memcpy(&attr, n->buf + at, sizeof attr);
		if (attr.nla_len < sizeof attr || at + attr.nla_len > n->len)
			return NULL;
		if ((attr.nla_type & NLA_TYPE_MASK) == type && attr.nla_len >= NLA_HDRLEN + size)
			return n->buf + at + NLA_HDRLEN;
	}
	return NULL;
}

int block_netlink_open(struct block_netlink *n, const char *family, struct hither_error *err)
{
	*n = (struct block_netlink){.fd = -1};
	HITHER_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	struct sockaddr_nl own = {.nl_family = AF_NETLINK}, kernel = own;
	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof own) ||
	    connect(fd, (struct sockaddr *)&kernel, sizeof kernel))
		return hither_fail(err, -errno, "netlink: %s", strerror(errno));
	n->fd = fd;
	begin(n, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
	block_netlink_put(n, CTRL_ATTR_FAMILY_NAME, family, strlen(family) + 1);
	int r = block_netlink_call(n);
	const void *id = r ? NULL : block_netlink_find(n, CTRL_ATTR_FAMILY_ID, sizeof n->family);
	n->fd = -1;
	if (!id)
		return hither_fail(err, r ? r : -ENOENT, "netlink: the kernel has no %s: %s",
		                   family, strerror(r ? -r : ENOENT));
	memcpy(&n->family, id, sizeof n->family);
	n->fd = HITHER_TAKE(fd, -1);
	return 0;
}

void block_netlink_close(struct block_netlink *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}
