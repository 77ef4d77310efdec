/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include "util.h"

#include <errno.h>
#include <hither/layer.h>
#include <stdio.h>
#include <string.h>

static int wrap_delay(struct hither_backend *inner, const char *value, struct hither_backend **out,
                      struct hither_error *err)
{
	uint64_t us;
	int r = units_parse_duration(value, &us, err);
	return r || !inner ? r : hither_layer_delay(inner, us, out, err);
}

static int wrap_rate(struct hither_backend *inner, const char *value, struct hither_backend **out,
                     struct hither_error *err)
{
	uint64_t bytes;
	int r = units_parse_size(value, &bytes, err);
	if (!r && !bytes)
		r = hither_fail(err, -EINVAL, "a rate of 0 never delivers anything");
	return r || !inner ? r : hither_layer_rate(inner, bytes, out, err);
}

static int wrap_log(struct hither_backend *inner, const char *value, struct hither_backend **out,
                    struct hither_error *err)
{
	if (!inner)
		return *value ? 0 : hither_fail(err, -EINVAL, "log= wants a file");
	FILE *file = fopen(value, "ae");
	if (!file)
		return hither_fail(err, -errno, "open %s: %s", value, strerror(errno));
	setlinebuf(file);
	int r = hither_layer_log(inner, file, out, err); /* which uses it until the process ends */
	if (r)
		fclose(file);
	return r;
}

static const struct {
	const char *name;
	/* inner NULL: only check value. */
	int (*wrap)(struct hither_backend *inner, const char *value, struct hither_backend **out,
	            struct hither_error *err);
} layers[] = {{"delay", wrap_delay}, {"rate", wrap_rate}, {"log", wrap_log}};

static int wrap_one(struct hither_backend **b, char *spec, struct hither_error *err)
{
	char *value = strchr(spec, '=');
	int r = -EINVAL;
	for (size_t i = 0; value && i < COUNT_OF(layers); i++)
		if (strlen(layers[i].name) == (size_t)(value - spec) &&
		    !strncmp(spec, layers[i].name, (size_t)(value - spec))) {
			r = layers[i].wrap(*b, value + 1, b, err);
			if (r)
				hither_error_prefix(err, "--wrap %s", spec);
			return r;
		}
	return hither_fail(err, r, "--wrap: %s is none of delay=DURATION, rate=SIZE, log=FILE",
	                   spec);
}

/* *b is replaced by each layer as it is put on; it stays the caller's on failure. NULL: only check.
 */
static int wrap_all(struct hither_backend **b, const char *list, struct hither_error *err)
{
	AUTO_FREE char *copy = strdup(list);
	char *rest = copy, *spec;
	int r = copy ? 0 : hither_fail(err, -ENOMEM, "no memory");
	while (!r && (spec = strsep(&rest, ",")))
		r = wrap_one(b, spec, err);
	return r;
}

int source_check_layers(const char *list, struct hither_error *err)
{
	struct hither_backend *none = NULL;
	return wrap_all(&none, list, err);
}

static int open_once(const struct settings *s, struct hither_mount **out, struct hither_error *err)
{
	if (!s->wrap)
		return hither_mount_open(s->url, &s->mount, out, err);
	struct hither_backend *b = NULL;
	int r = hither_backend_open(s->url, &s->mount.backend, &b, err);
	if (r)
		return r;
	r = wrap_all(&b, s->wrap, err);
	if (!r)
		r = hither_mount_backend(b, s->url, &s->mount, out, err);
	if (r)
		hither_backend_close(b);
	return r;
}

int source_open(struct settings *s, bool may_write, struct hither_mount **out,
                struct hither_error *err)
{
	s->mount.backend.writable = may_write && !s->read_only;
	int r = open_once(s, out, err);
	if (r != -EROFS || s->write || !s->mount.backend.writable)
		return r;
	*err = (struct hither_error){0};
	s->mount.backend.writable = false;
	return open_once(s, out, err);
}
