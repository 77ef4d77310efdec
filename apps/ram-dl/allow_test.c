/* SPDX-License-Identifier: Apache-2.0 */
#include "allow.h"

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static bool has(const struct allow *list, const char *text)
{
	struct sockaddr_storage peer = {0};
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		memcpy(&peer, &v4, sizeof v4);
	} else {
		CHECK_EQ(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
		memcpy(&peer, &v6, sizeof v6);
	}
	return allow_has(list, &peer);
}

static void networks_have_their_addresses(void)
{
	struct hither_error err = {0};
	struct allow list = {0};
	CHECK(has(&list, "192.0.2.1")); /* an empty list allows all */
	CHECK_OK(allow_add(&list, "192.0.2.0/25", &err));
	CHECK_OK(allow_add(&list, "198.51.100.7", &err));
	CHECK_OK(allow_add(&list, "2001:db8::/33", &err));
	CHECK(has(&list, "192.0.2.1"));
	CHECK(has(&list, "192.0.2.127"));
	CHECK(!has(&list, "192.0.2.128"));
	CHECK(has(&list, "::ffff:192.0.2.5")); /* IPv4, come in by an IPv6 socket */
	CHECK(has(&list, "198.51.100.7"));
	CHECK(!has(&list, "198.51.100.6"));
	CHECK(has(&list, "2001:db8:7fff::1"));
	CHECK(!has(&list, "2001:db8:8000::1"));
	CHECK(!has(&list, "::1"));
}

static void a_unix_socket_is_allowed(void)
{
	struct hither_error err = {0};
	struct allow list = {0};
	CHECK_OK(allow_add(&list, "192.0.2.0/25", &err));
	CHECK(allow_has(&list, &(struct sockaddr_storage){.ss_family = AF_UNIX}));
}

static void nonsense_is_refused(void)
{
	static const char *const bad[] = {"",        "host",         "192.0.2.1/33", "192.0.2.1/",
	                                  "::1/129", "192.0.2.1/-1", "1.2.3",        "1.2.3.4/8x"};
	struct hither_error err = {0};
	struct allow list = {0};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_EQ(allow_add(&list, bad[i], &err), -EINVAL);
	CHECK_EQ(list.count, 0);
	for (int i = 0; i < ALLOW_MAX; i++)
		CHECK_OK(allow_add(&list, "0.0.0.0/0", &err));
	CHECK_EQ(allow_add(&list, "0.0.0.0/0", &err), -ENOSPC);
}

int main(void)
{
	RUN(networks_have_their_addresses);
	RUN(a_unix_socket_is_allowed);
	RUN(nonsense_is_refused);
	return 0;
}
