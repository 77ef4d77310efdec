/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options: tables that say what an option is called, what it sets and how --help tells of it, so
 * that parsing and help cannot differ.
 */
#ifndef HITHER_APP_OPTIONS_H
#define HITHER_APP_OPTIONS_H

#include <hither/error.h>
#include <stddef.h>

struct settings;

struct option_spec {
	const char *name;  /* long, without dashes */
	char letter;       /* short, or 0 */
	const char *value; /* "SIZE" in help; NULL: takes none */
	const char *help;  /* one sentence; help wraps it */
	/* Set the field at offset of settings. value is NULL where the option takes none. */
	int (*set)(void *field, const char *value, struct hither_error *err);
	size_t offset;
};

struct option_group {
	const char *title;
	const struct option_spec *specs;
	size_t count;
};

struct command {
	const char *name;
	const char *usage;   /* after "hither NAME ", as "[OPTIONS] URL PATH" */
	const char *summary; /* one line, for the list of commands */
	const char *text;    /* what --help says before the options; lines under 80 columns */
	const struct option_group *const *groups; /* NULL-terminated */
	int min_args, max_args;
	bool digits_after_dash; /* "-5" is an argument; it has no such options */
	bool options_first;     /* what follows the first argument is nobody's option of ours */
	/* The exit code. args: max_args + 1 of them, those not given NULL. */
	int (*run)(struct settings *s, char **args);
};

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSED = 2 };

/* Setters. */
int set_true(void *field, const char *value, struct hither_error *err);   /* bool */
int set_string(void *field, const char *value, struct hither_error *err); /* char *: a copy */
/* char *: a copy, and the argument itself is made unreadable in the list of processes. */
int set_secret(void *field, const char *value, struct hither_error *err);
int set_path(void *field, const char *value, struct hither_error *err); /* char *: made absolute */
int set_size(void *field, const char *value, struct hither_error *err); /* uint64_t, bytes */
int set_size32(void *field, const char *value, struct hither_error *err); /* uint32_t, bytes */
int set_count(void *field, const char *value, struct hither_error *err);  /* uint32_t, 1 or more */
int set_ms(void *field, const char *value, struct hither_error *err);     /* uint32_t; at least 1 */
int set_fd(void *field, const char *value, struct hither_error *err);     /* int: an open one */
int add_text(void *field, const char *value, struct hither_error *err); /* char **: one more copy */
int set_off_switch(void *field, const char *value,
                   struct hither_error *err); /* bool: true for "off" */

/*
 * Parse argv (argv[0] is the command's name) into s and args. Returns -1 to go on, else the exit
 * code: after --help, or after misuse, which has been reported.
 */
int options_parse(const struct command *command, int argc, char **argv, struct settings *s,
                  char **args);

/* Hide the passwords of URL arguments in the list of processes; they have been copied. */
void options_hide(char *argument);

#endif
