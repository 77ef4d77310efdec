/* SPDX-License-Identifier: Apache-2.0 */
/* What options set, for all commands; each command's groups name the part it looks at. */
#ifndef HITHER_APP_SETTINGS_H
#define HITHER_APP_SETTINGS_H

#include "options.h"
#include "units.h"

#include <hither/block.h>
#include <hither/export.h>
#include <hither/tree.h>

struct settings {
	/* Strings in here are borrowed from the fields below; settings_apply() fills them in. */
	struct hither_mount_options mount;
	char *url;       /* absolute, as it is opened; shown only redacted */
	char *cache_dir; /* absolute, or "none" */
	char *order;
	char *user, *ca_file, *cert_file, *key_file, *proxy;
	char *profile, *record;
	char *sync, *on_change;
	char **headers; /* NULL-terminated, or NULL */
	struct units_range *ranges;
	struct hither_range *resolved_ranges;
	size_t range_count;
	char *wrap; /* layers, see layers.h */
	bool write, read_only;
	bool foreground, allow_other;
	char *log;
	int progress_fd;         /* -1: none */
	char **listens, **names; /* NULL-terminated, or NULL */
	char *tls, *tls_certificates, *tls_psk_file, *pid_file;
	struct hither_export_options export;
	char *block_kind;
	struct hither_block_options block;
	/* Of a URL that is a manifest, see source.h. */
	char *root_hash;
	bool takes_tree;  /* the command can show a folder */
	bool own_copy;    /* do without the cache if another process has it */
	bool has_offline; /* the command has --offline */
	bool cache_asked; /* settings_apply(): something was said of a cache, or of pulling */
	struct hither_tree *tree; /* source_open() found one; it lives as long as this */
	int profile_fd;           /* the profile beside it; -1: none */
	char note[400];           /* what source_open() told stderr; "": nothing */
	char *output, *base;      /* of index, profile */
	char *plot, *tree_url;    /* of profile */
	bool list;
	uint32_t chunk;
	bool rehash;
	bool lazy, force, json, metrics, watch, quiet;
};

void settings_init(struct settings *s);
void settings_finish(struct settings *s);

/*
 * Check what belongs together and fill s->mount, for resource `url` (NULL: none). Nothing is
 * opened. -EINVAL: misuse, err says which.
 */
int settings_apply(struct settings *s, const char *url, struct hither_error *err);

/* The cache folder: as asked for, else below $XDG_CACHE_HOME or the home. NULL: in memory. */
const char *settings_cache_dir(struct settings *s, struct hither_error *err);

extern const struct option_group options_cache;     /* --cache, --cache-size */
extern const struct option_group options_cache_dir; /* --cache alone */
extern const struct option_group options_pull;      /* --order, --range, --workers ... */
extern const struct option_group options_write;     /* --write, --sync ... */
extern const struct option_group options_network;   /* --user, --header ... */
extern const struct option_group options_test;      /* --wrap */

#endif
