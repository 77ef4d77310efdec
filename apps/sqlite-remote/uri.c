/* SPDX-License-Identifier: Apache-2.0 */
#include "remote.h"

#include <hither/url.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What SQLite's reader of URIs would take for its own. */
static void put_encoded(FILE *out, const char *text, const char *special)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || strchr(special, *text))
			fprintf(out, "%%%02X", (unsigned char)*text);
		else
			fputc(*text, out);
}

char *uri_of(const struct settings *s)
{
	char *text = NULL, *path = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		return NULL;
	fputs("file:", out);
	if (!hither_url_scheme(s->url)) {
		path = realpath(s->url, NULL);
		fputs("file:", out);
	}
	put_encoded(out, path ? path : s->url, "%?#");
	fputs("?vfs=hither", out);
	for (size_t i = 0; i < s->param_count; i++) {
		fprintf(out, "&%s=", s->params[i].name);
		put_encoded(out, s->params[i].value, "%#&");
	}
	free(path);
	bool bad = ferror(out);
	if (fclose(out) || bad) {
		free(text);
		return NULL;
	}
	return text;
}
