/* SPDX-License-Identifier: Apache-2.0 */
/* Options that outlive the call that gave them. */
#include "tree/tree_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int copy(const char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to ? 0 : -ENOMEM;
}

static int copy_headers(struct hither_backend_options *to, const char *const *from)
{
	size_t count = 0;
	while (from && from[count])
		count++;
	const char **headers = from ? calloc(count + 1, sizeof *headers) : NULL;
	to->headers = headers;
	int r = from && !headers ? -ENOMEM : 0;
	for (size_t i = 0; i < count && !r; i++)
		r = copy(&headers[i], from[i]);
	return r;
}

int tree_options_copy(struct hither_backend_options *to, const struct hither_backend_options *from)
{
	*to = *from;
	to->user = to->ca_file = to->cert_file = to->key_file = to->proxy = to->known_version =
	        NULL;
	to->headers = NULL;
	to->writable = false;
	to->known_size_bytes = to->create_bytes = 0;
	int r = copy_headers(to, from->headers);
	r = r ? r : copy(&to->user, from->user);
	r = r ? r : copy(&to->ca_file, from->ca_file);
	r = r ? r : copy(&to->cert_file, from->cert_file);
	r = r ? r : copy(&to->key_file, from->key_file);
	return r ? r : copy(&to->proxy, from->proxy);
}

void tree_options_finish(struct hither_backend_options *o)
{
	const char *const strings[] = {o->user, o->ca_file, o->cert_file, o->key_file, o->proxy};
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
		free((void *)(uintptr_t)strings[i]);
	for (const char *const *h = o->headers; h && *h; h++)
		free((void *)(uintptr_t)*h);
	free((void *)(uintptr_t)o->headers);
	*o = (struct hither_backend_options){0};
}
