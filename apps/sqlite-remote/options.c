/* SPDX-License-Identifier: Apache-2.0 */
#include "remote.h"
#include "stumble.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
        "Usage: sqlite-remote [OPTIONS] URL [SQL]...    query, or an interactive shell\n"
        "       sqlite-remote warm [OPTIONS] URL SQL... record what these queries need\n"
        "       sqlite-remote mount [OPTIONS] URL PATH  a file for any program\n"
        "\n"
        "Opens a SQLite database in place, on a web server or an NBD server, and fetches\n"
        "the pages that the queries need. Rows go to stdout as in sqlite3's list mode;\n"
        "an SQL that begins with '.' or comes by stdin is for the stock sqlite3.\n"
        "\n"
        "  --stats            After each query: requests, bytes, round trips, waiting.\n"
        "  --explain          After each query: pages touched, per table and index, and\n"
        "                     how many of them were guessed in time.\n"
        "  --prefetch WHAT    none: page by page; btree: what pages suggest (default);\n"
        "                     all: the rest of the file too.\n"
        "  --cache DIR        Keep what was fetched in DIR ($XDG_CACHE_HOME/hither or\n"
        "                     ~/.cache/hither); none: in memory, while this runs.\n"
        "  --profile FILE     Fetch first what FILE says (URL.hither-profile, if it is\n"
        "                     there); none: neither.\n"
        "  --output FILE      warm: write the profile there (NAME.hither-profile here).\n"
        "  --deadline DURATION\n"
        "                     How long a query rides through an outage (5min).\n"
        "  --follow           When the database changes on its server, go on at the new\n"
        "                     version with the next transaction.\n"
        "  --beside WHAT      A journal or WAL beside the database on its server: refuse\n"
        "                     (default) or ignore it.\n"
        "  --sync WHERE       What COMMIT promises: remote, the server has it (default);\n"
        "                     local, the cache on disk has it.\n"
        "  --state DIR        Keep journals of databases that are written in DIR.\n"
        "  --read-only        Do not ask for writing.\n"
        "  --header           Print the columns' names first.\n"
        "  --separator TEXT   Between columns ('|').\n"
        "  -h, --help         Show this help.\n"
        "  -V, --version      Show the version.\n"
        "\n"
        "Exit status: 0, SQLite's result code, or 2 if misused.\n";

enum {
	STATS = 256,
	EXPLAIN,
	OUTPUT,
	READ_ONLY,
	HEADER,
	SEPARATOR,
	VFS_PARAM,
	CACHE,
	DEADLINE,
	FOLLOW
};

/* Those of VFS_PARAM are handed on by their name. */
static const struct option options[] = {
        {"stats", no_argument, NULL, STATS},
        {"explain", no_argument, NULL, EXPLAIN},
        {"prefetch", required_argument, NULL, VFS_PARAM},
        {"cache", required_argument, NULL, CACHE},
        {"profile", required_argument, NULL, VFS_PARAM},
        {"deadline", required_argument, NULL, DEADLINE},
        {"follow", no_argument, NULL, FOLLOW},
        {"beside", required_argument, NULL, VFS_PARAM},
        {"sync", required_argument, NULL, VFS_PARAM},
        {"state", required_argument, NULL, VFS_PARAM},
        {"output", required_argument, NULL, OUTPUT},
        {"read-only", no_argument, NULL, READ_ONLY},
        {"header", no_argument, NULL, HEADER},
        {"separator", required_argument, NULL, SEPARATOR},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
};

void options_help(void)
{
	fputs(help, stdout);
}

/* The last one given counts. */
void options_add(struct settings *s, const char *name, const char *value)
{
	size_t i = 0;
	while (i < s->param_count && strcmp(s->params[i].name, name) != 0)
		i++;
	s->params[i] = (struct param){name, value};
	if (i == s->param_count)
		s->param_count++;
}

static const char *param_of(const struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->param_count; i++)
		if (!strcmp(s->params[i].name, name))
			return s->params[i].value;
	return NULL;
}

/* As the command hither does; where there is no such folder, memory. */
static void add_default_cache(struct settings *s)
{
	static char dir[4096];
	const char *base = getenv("XDG_CACHE_HOME"), *below = "";
	if (param_of(s, "store"))
		return;
	if (!base || *base != '/') {
		base = getenv("HOME");
		below = "/.cache";
	}
	if (base && *base == '/' &&
	    snprintf(dir, sizeof dir, "%s%s/hither", base, below) < (int)sizeof dir)
		options_add(s, "store", dir);
}

/* The URI's is in seconds. */
static int take_deadline(struct settings *s, const char *text)
{
	static char seconds[32];
	struct hither_error err = {0};
	uint64_t us;
	if (units_parse_duration(text, &us, &err))
		return fail_with(EXIT_MISUSED, "--deadline: %s", err.message);
	snprintf(seconds, sizeof seconds, "%.3f", (double)us / 1e6);
	options_add(s, "deadline", seconds);
	return -1;
}

static int take(int option, int index, struct settings *s)
{
	switch (option) {
	case STATS:
		s->stats = true;
		break;
	case EXPLAIN:
		s->explain = true;
		break;
	case OUTPUT:
		s->output = optarg;
		break;
	case READ_ONLY:
		s->readonly = true;
		break;
	case HEADER:
		s->header = true;
		break;
	case SEPARATOR:
		s->separator = optarg;
		break;
	case VFS_PARAM:
		options_add(s, options[index].name, optarg);
		break;
	case CACHE: /* "cache" in a URI is SQLite's own */
		options_add(s, "store", strcmp(optarg, "none") ? optarg : "memory");
		break;
	case DEADLINE:
		return take_deadline(s, optarg);
	case FOLLOW:
		s->follow = true;
		options_add(s, "follow", "on");
		break;
	case 'h':
		options_help();
		return EXIT_DONE;
	case 'V':
		printf("sqlite-remote %s, SQLite %s\n", HITHER_VERSION, sqlite3_libversion());
		return EXIT_DONE;
	}
	return -1;
}

int options_parse(int argc, char **argv, const char *command, struct settings *out)
{
	*out = (struct settings){.separator = "|"};
	char why[STUMBLE_BYTES];
	int option, index = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, "+:hV", options, &index)) != -1) {
		if (option == '?' || option == ':')
			return fail_with(EXIT_MISUSED, "%s; see sqlite-remote --help",
			                 stumble(option, argv, options, why));
		int code = take(option, index, out);
		if (code >= 0)
			return code;
	}
	if (optind == argc)
		return fail_with(EXIT_MISUSED, "a URL is missing; see sqlite-remote --help");
	out->url = argv[optind];
	out->sql = argv + optind + 1;
	if (command && !*out->sql)
		return fail_with(EXIT_MISUSED, "%s: an SQL is missing; see sqlite-remote --help",
		                 command);
	add_default_cache(out);
	return -1;
}
