/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "program.h"
#include "settings.h"
#include "typo.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
	MAX_OPTIONS = 64,
	HELP_VALUE = 1000, /* getopt's codes for what has no letter; specs count on from here */
	HELP_COLUMN = 25,
	HELP_WIDTH = 79,
};

/* --- setters --- */

int set_true(void *field, const char *value, struct hither_error *err)
{
	*(bool *)field = true;
	return 0;
}

static int set_owned(char **field, char *text, struct hither_error *err)
{
	if (!text)
		return hither_fail(err, -ENOMEM, "no memory");
	free(*field);
	*field = text;
	return 0;
}

int set_string(void *field, const char *value, struct hither_error *err)
{
	return set_owned(field, strdup(value), err);
}

int set_secret(void *field, const char *value, struct hither_error *err)
{
	int r = set_owned(field, strdup(value), err);
	if (!r)
		memset((char *)(uintptr_t)value, 'x',
		       strlen(value)); /* it is in argv, so it is ours */
	return r;
}

int set_path(void *field, const char *value, struct hither_error *err)
{
	if (!*value)
		return hither_fail(err, -EINVAL, "an empty path");
	return set_owned(field, path_absolute(value), err);
}

int set_size(void *field, const char *value, struct hither_error *err)
{
	return units_parse_size(value, field, err);
}

int set_size32(void *field, const char *value, struct hither_error *err)
{
	uint64_t bytes;
	int r = units_parse_size(value, &bytes, err);
	if (r)
		return r;
	if (bytes > UINT32_MAX)
		return hither_fail(err, -ERANGE, "%s is too large", value);
	*(uint32_t *)field = (uint32_t)bytes;
	return 0;
}

static int parse_int(const char *value, long least, long most, long *out, struct hither_error *err)
{
	char *end;
	errno = 0;
	*out = strtol(value, &end, 10);
	if (end == value || *end || errno || *out < least || *out > most)
		return hither_fail(err, -EINVAL, "%s is not a number from %ld to %ld", value, least,
		                   most);
	return 0;
}

int set_count(void *field, const char *value, struct hither_error *err)
{
	long count;
	int r = parse_int(value, 1, 1000000, &count, err);
	if (!r)
		*(uint32_t *)field = (uint32_t)count;
	return r;
}

int set_ms(void *field, const char *value, struct hither_error *err)
{
	uint64_t us;
	int r = units_parse_duration(value, &us, err);
	if (r)
		return r;
	if (us / 1000 > UINT32_MAX)
		return hither_fail(err, -ERANGE, "%s is too long", value);
	/* 0 means "the default" below us; the least that can be asked for is 1 ms. */
	*(uint32_t *)field = us < 1000 ? 1 : (uint32_t)(us / 1000);
	return 0;
}

int set_fd(void *field, const char *value, struct hither_error *err)
{
	long fd;
	int r = parse_int(value, 0, INT_MAX, &fd, err);
	if (r)
		return r;
	if (fcntl((int)fd, F_GETFD) < 0)
		return hither_fail(err, -EBADF, "file descriptor %ld is not open", fd);
	*(int *)field = (int)fd;
	return 0;
}

int set_off_switch(void *field, const char *value, struct hither_error *err)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return hither_fail(err, -EINVAL, "%s is neither on nor off", value);
	*(bool *)field = !strcmp(value, "off");
	return 0;
}

void options_hide(char *argument)
{
	AUTO_FREE char *shown = url_redact(argument);
	size_t size = strlen(argument) + 1;
	if (!shown || !strcmp(shown, argument))
		return;
	memset(argument, 0, size);
	memcpy(argument, shown, strnlen(shown, size - 1));
}

/* --- help --- */

/* Words of text from column on, wrapped and indented to HELP_COLUMN. */
static void print_wrapped(const char *text, int column)
{
	bool first = true;
	if (column + 1 > HELP_COLUMN) {
		putchar('\n');
		column = 0;
	}
	printf("%*s", HELP_COLUMN - column, "");
	column = HELP_COLUMN;
	while (*text) {
		int len = (int)strcspn(text, " ");
		if (!first && column + 1 + len > HELP_WIDTH) {
			printf("\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
			first = true;
		}
		column += printf("%s%.*s", first ? "" : " ", len, text);
		first = false;
		text += len + (text[len] == ' ');
	}
	putchar('\n');
}

static void print_option(const struct option_spec *spec)
{
	int column = spec->letter ? printf("  -%c, ", spec->letter) : printf("      ");
	column += printf("--%s%s%s", spec->name, spec->value ? " " : "",
	                 spec->value ? spec->value : "");
	print_wrapped(spec->help, column);
}

static void print_help(const struct command *command)
{
	printf("Usage: %s %s %s\n\n%s\n", program_name, command->name, command->usage,
	       command->text);
	for (const struct option_group *const *g = command->groups; *g; g++) {
		printf("\n%s:\n", (*g)->title);
		for (size_t i = 0; i < (*g)->count; i++)
			print_option(&(*g)->specs[i]);
	}
	printf("\n  -h, --help             Show this help.\n");
}

/* --- parsing --- */

/* Where getopt's tables meet ours: options[i] is specs[i]. */
struct table {
	struct option options[MAX_OPTIONS + 2];
	const struct option_spec *specs[MAX_OPTIONS + 1];
	char letters[2 * MAX_OPTIONS + 5];
};

static void fill_table(const struct command *command, struct table *t)
{
	char *letter = t->letters;
	int n = 0;
	if (command->options_first)
		*letter++ = '+';
	*letter++ = ':'; /* tell a missing value from an unknown option, and print nothing */
	for (const struct option_group *const *g = command->groups; *g; g++)
		for (size_t i = 0; i < (*g)->count && n < MAX_OPTIONS; i++, n++) {
			const struct option_spec *spec = &(*g)->specs[i];
			t->specs[n] = spec;
			t->options[n] = (struct option){
			        .name = spec->name,
			        .has_arg = spec->value ? required_argument : no_argument,
			        .val = HELP_VALUE + 1 + n,
			};
			if (!spec->letter)
				continue;
			*letter++ = spec->letter;
			if (spec->value)
				*letter++ = ':';
		}
	t->options[n] = (struct option){.name = "help", .val = HELP_VALUE};
	*letter++ = 'h';
}

static const struct option_spec *spec_of(const struct table *t, int code)
{
	if (code > HELP_VALUE)
		return t->specs[code - HELP_VALUE - 1];
	for (int i = 0; t->specs[i]; i++)
		if (t->specs[i]->letter == code)
			return t->specs[i];
	return NULL;
}

static int misused(const struct command *command, const char *what, const char *which)
{
	fprintf(stderr, "%s: %s: %s%s%s; see %s %s --help\n", program_name, command->name, what,
	        which ? " " : "", which ? which : "", program_name, command->name);
	return EXIT_MISUSED;
}

static int unknown(const struct command *command, const struct table *t, const char *word)
{
	char name[64];
	struct typo typo = {.typed = name};
	snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
	for (const struct option *o = t->options; !strncmp(word, "--", 2) && o->name; o++) {
		char known[64];
		snprintf(known, sizeof known, "--%s", o->name);
		typo_consider(&typo, known);
		if (typo.meant == known)
			typo.meant = o->name;
	}
	if (!typo.meant)
		return misused(command, "unknown option", word);
	fprintf(stderr, "%s: %s: unknown option %s; did you mean --%s?\n", program_name,
	        command->name, word, typo.meant);
	return EXIT_MISUSED;
}

/* The argument getopt stumbled over, as it was typed. */
static const char *stumbled(char **argv, char letters[3])
{
	if (!optopt || optopt >= HELP_VALUE)
		return argv[optind - 1];
	letters[0] = '-';
	letters[1] = (char)optopt;
	letters[2] = 0;
	return letters;
}

static int apply(const struct command *command, const struct option_spec *spec, struct settings *s)
{
	struct hither_error err = {0};
	if (!spec->set((char *)s + spec->offset, optarg, &err))
		return -1;
	fprintf(stderr, "%s: %s: --%s: %s\n", program_name, command->name, spec->name, err.message);
	return EXIT_MISUSED;
}

/* getopt knows no argument that begins with a dash: hide the dash from it. */
enum { HIDDEN_DASH = 1 };

static void hide_dashes(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (argv[i][0] == '-' && argv[i][1] >= '0' && argv[i][1] <= '9')
			argv[i][0] = HIDDEN_DASH;
}

static void show_dashes(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (argv[i][0] == HIDDEN_DASH)
			argv[i][0] = '-';
}

static int take_args(const struct command *command, int argc, char **argv, char **args)
{
	int count = argc - optind;
	if (count < command->min_args)
		return misused(command,
		               count ? "an argument is missing, it takes"
		                     : "arguments are missing, it takes",
		               command->usage);
	if (count > command->max_args)
		return misused(command, "too many arguments from",
		               argv[optind + command->max_args]);
	for (int i = 0; i <= command->max_args; i++)
		args[i] = i < count ? argv[optind + i] : NULL;
	return -1;
}

int options_parse(const struct command *command, int argc, char **argv, struct settings *s,
                  char **args)
{
	struct table t = {0};
	char letters[3];
	int code, r;
	fill_table(command, &t);
	optind = 0;
	if (command->digits_after_dash)
		hide_dashes(argc, argv);
	opterr = 0;
	while ((code = getopt_long(argc, argv, t.letters, t.options, NULL)) != -1) {
		if (code == 'h' || code == HELP_VALUE) {
			print_help(command);
			return EXIT_DONE;
		}
		if (code == '?')
			return unknown(command, &t, stumbled(argv, letters));
		if (code == ':')
			return misused(command, "a value is missing after",
			               stumbled(argv, letters));
		r = apply(command, spec_of(&t, code), s);
		if (r >= 0)
			return r;
	}
	if (command->digits_after_dash)
		show_dashes(argc, argv);
	return take_args(command, argc, argv, args);
}
