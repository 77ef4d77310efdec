/* SPDX-License-Identifier: Apache-2.0 */
/* URLs of manifests, and of the files beside them. */
#include "tree/tree_internal.h"

#include "backend/url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the path ends: at a query or fragment, which bare paths have not. */
static size_t path_end(const char *url)
{
	return hither_url_scheme(url) ? strcspn(url, "?#") : strlen(url);
}

bool hither_tree_is_url(const char *url)
{
	static const char suffix[] = ".hither";
	size_t end = path_end(url), len = sizeof suffix - 1;
	return end > len && url[end - len - 1] != '/' && !strncmp(url + end - len, suffix, len);
}

/* RFC 3986's unreserved characters, and '/' and others that paths may have as they are. */
static bool is_plain(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~/!$'()*,;:@&=", c));
}

static size_t put_escaped(char *to, const char *text)
{
	char *at = to;
	for (; *text; text++) {
		if (is_plain((unsigned char)*text))
			*at++ = *text;
		else
			at += sprintf(at, "%%%02X", (unsigned char)*text);
	}
	return (size_t)(at - to);
}

char *tree_url(const char *manifest, const char *base, const char *path)
{
	bool escape = hither_url_scheme(manifest);
	size_t end = path_end(manifest), folder = end;
	size_t query = end + strcspn(manifest + end, "#") - end;
	while (folder && manifest[folder - 1] != '/' && manifest[folder - 1] != ':')
		folder--;
	char *url = malloc(folder + 3 * (strlen(base) + strlen(path)) + query + 1);
	if (!url)
		return NULL;
	memcpy(url, manifest, folder);
	size_t at = folder;
	if (escape) {
		at += put_escaped(url + at, base);
		at += put_escaped(url + at, path);
	} else {
		at += (size_t)sprintf(url + at, "%s%s", base, path);
	}
	memcpy(url + at, manifest + end, query);
	url[at + query] = 0;
	return url;
}
