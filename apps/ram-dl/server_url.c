/* SPDX-License-Identifier: Apache-2.0 */
#include "server_url.h"

#include <stdio.h>
#include <string.h>

char *server_url(const char *text)
{
	char *url;
	if (strstr(text, "://") || *text == '/')
		return strdup(text);
	/* A scheme without slashes (memory:8G) is no HOST:PORT: a port is digits. */
	const char *colon = strchr(text, ':');
	if (colon && *text != '[' && strspn(colon + 1, "0123456789") != strcspn(colon + 1, "/"))
		return strdup(text);
	return asprintf(&url, "nbd://%s%s", text, strchr(text, '/') ? "" : "/") < 0 ? NULL : url;
}
