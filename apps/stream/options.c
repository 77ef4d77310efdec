/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include "source.h"
#include "util.h"

static const struct option_spec specs[] = {
        {"buffer", 'b', "DURATION",
         "Keep so much ahead of where it is played, before anything else is pulled (30s).", set_ms,
         offsetof(struct stream_settings, base.mount.ahead_ms)},
        {"all", 'a', NULL, "Pull the rest, too, once that much is here.", set_true,
         offsetof(struct stream_settings, all)},
        {"record", 'r', "FILE",
         "Once everything is here, copy it to FILE, which must not exist, and verify the copy.",
         set_path, offsetof(struct stream_settings, copy)},
};
const struct option_group stream_options = {"Streaming", specs, COUNT_OF(specs)};

int stream_apply(const char *command, struct stream_settings *s, const char *url)
{
	struct hither_error err = {0};
	struct settings *base = &s->base;
	int r = base->wrap ? source_check_layers(base->wrap, &err) : 0;
	if (!r)
		r = settings_apply(base, url, &err);
	if (r)
		return fail_with(EXIT_MISUSED, "%s: %s", command, err.message);
	base->mount.pull_off = !s->all;
	base->read_only = true;
	return -1;
}
