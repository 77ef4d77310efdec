/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include "source.h"
#include "start.h"
#include "streams.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <hither/media.h>

/* More than usual: a seek takes many, each of which brings little at once. A connection each, that
 * stays open. */
enum { WORKERS = 48, WORKERS_FEW_FILES = 16 };

static const struct option_spec specs[] = {
        {"buffer", 'b', "DURATION",
         "Keep so much ahead of where it is played, before anything else is pulled (30s).", set_ms,
         offsetof(struct stream_settings, base.mount.ahead_ms)},
        {"all", 'a', NULL, "Pull the rest, too, once that much is here.", set_true,
         offsetof(struct stream_settings, all)},
        {"record", 'r', "FILE",
         "Once everything is here, copy it to FILE, which must not exist, and verify the copy.",
         set_path, offsetof(struct stream_settings, copy)},
        {"deadline", 0, "DURATION",
         "How long a read rides through an outage before it fails (5min).", set_ms,
         offsetof(struct stream_settings, base.mount.deadline_ms)},
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
	if (!base->mount.workers)
		base->mount.workers = start_has_few_files() ? WORKERS_FEW_FILES : WORKERS;
	base->mount.backend.parallel = base->mount.workers;
	base->read_only = true;
	return -1;
}

int stream_check_room(const struct stream_settings *s, const struct hither_mount *m,
                      struct hither_error *err)
{
	char keeps[UNITS_TEXT_BYTES], all[UNITS_TEXT_BYTES];
	uint64_t cap = s->base.mount.cache_cap_bytes, size = hither_mount_size(m);
	if ((!s->copy && !s->all) || !cap || cap >= size)
		return 0;
	return hither_fail(err, -EFBIG,
	                   "--%s needs all of it here at a time: %s, and --cache-size keeps %s",
	                   s->copy ? "record" : "all", units_format_size(all, size),
	                   units_format_size(keeps, cap));
}

int stream_refuse(const char *name, struct hither_error *err)
{
	return hither_fail(err, -EMEDIUMTYPE,
	                   "%s: neither video nor audio that can be recognised; hither mount makes "
	                   "any file usable",
	                   name);
}

int stream_check_media(struct hither_mount *m, const char *name, struct hither_error *err)
{
	struct streams streams;
	uint8_t head[64];
	size_t len = hither_mount_size(m) < sizeof head ? hither_mount_size(m) : sizeof head;
	int r = hither_mount_read_at(m, head, len, 0, err);
	if (r || hither_media_recognise(head, len))
		return r;
	streams_find(&streams, m);
	if (streams.looked && !streams.count)
		r = stream_refuse(name, err);
	streams_finish(&streams);
	return r;
}
