/* SPDX-License-Identifier: Apache-2.0 */
#include "holder.h"

#include "runtime.h"
#include "settings.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <string.h>

struct search {
	const char *url, *cache; /* without secrets; a folder */
	struct holder *found;
};

/* An export's "url" are several, with ", " between them. */
static bool names(const char *urls, const char *url)
{
	size_t len = strlen(url);
	for (const char *at = urls; (at = strstr(at, url)); at++)
		if ((at == urls || at[-1] == ' ') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

static int consider(void *user, struct runtime_daemon *d)
{
	struct search *s = user;
	char urls[8192], cache[PATH_MAX];
	if (!d->alive || !json_get_string(d->info, "url", urls, sizeof urls) ||
	    !json_get_string(d->info, "cache", cache, sizeof cache) || strcmp(cache, s->cache) ||
	    !names(urls, s->url))
		return 0;
	struct holder *h = s->found;
	h->pid = d->pid;
	h->socket = runtime_connect(d);
	h->pidfd = TAKE(d->pidfd, -1);
	if (!json_get_string(d->info, "path", h->path, sizeof h->path))
		*h->path = 0;
	return 1;
}

bool holder_find(const struct settings *s, struct holder *out)
{
	AUTO_FREE char *url = url_redact(s->url);
	*out = (struct holder){.socket = -1, .pidfd = -1};
	struct search search = {.url = url, .cache = s->mount.cache_dir, .found = out};
	return url && search.cache && runtime_each(true, consider, &search);
}

void holder_finish(struct holder *h)
{
	if (h->socket >= 0)
		close(h->socket);
	if (h->pidfd >= 0)
		close(h->pidfd);
	*h = (struct holder){.socket = -1, .pidfd = -1};
}

void holder_explain(const struct settings *s, struct hither_error *err)
{
	struct holder h;
	AUTO_FREE char *url = url_redact(s->url);
	if (url && holder_find(s, &h) && *h.path)
		hither_fail(
		        err, err->code,
		        "%.80s is at %.90s already (process %ld): use it there, or hither umount "
		        "%.90s; --cache DIR, or none, gives this one a cache of its own",
		        url, h.path, (long)h.pid, h.path);
	holder_finish(&h);
}
