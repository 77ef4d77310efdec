/* SPDX-License-Identifier: Apache-2.0 */
#include "stumble.h"

#include "typo.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_short(const char *word)
{
	return word[0] == '-' && word[1] != '-';
}

const char *stumble(int code, char **argv, const struct option *options, char out[STUMBLE_BYTES])
{
	char name[64];
	const char *word = argv[optind - 1];
	struct typo typo = {.typed = name};
	if (code == ':' && optopt > ' ' && optopt < 127 && is_short(word)) {
		snprintf(out, STUMBLE_BYTES, "a value is missing after -%c", optopt);
		return out;
	}
	if (code == ':') {
		snprintf(out, STUMBLE_BYTES, "a value is missing after %.100s", word);
		return out;
	}
	if (optopt > ' ' && optopt < 127 && strncmp(word, "--", 2)) {
		snprintf(out, STUMBLE_BYTES, "unknown option -%c", optopt);
		return out;
	}
	snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
	for (const struct option *o = options; o->name; o++)
		typo_consider(&typo, o->name);
	snprintf(out, STUMBLE_BYTES, "unknown option %.100s%s%s", word,
	         typo.meant ? "; did you mean --" : "", typo.meant ? typo.meant : "");
	return out;
}
