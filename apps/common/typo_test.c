/* SPDX-License-Identifier: Apache-2.0 */
#include "typo.h"

#include "check.h"

#include <string.h>

static const char *meant(const char *typed)
{
	static const char *const words[] = {"mount", "umount", "status", "pull", "cat",
	                                    "cache", "export", "block",  "index"};
	struct typo t = {.typed = typed};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		typo_consider(&t, words[i]);
	return t.meant ? t.meant : "";
}

static void slips_are_seen_through(void)
{
	CHECK(!strcmp(meant("mout"), "mount"));
	CHECK(!strcmp(meant("omunt"), "mount"));
	CHECK(!strcmp(meant("unmount"), "umount"));
	CHECK(!strcmp(meant("staus"), "status"));
	CHECK(!strcmp(meant("chace"), "cache"));
	CHECK(!strcmp(meant("cta"), "cat"));
	CHECK(!strcmp(meant("plul"), "pull"));
}

static void other_words_are_let_be(void)
{
	CHECK(!strcmp(meant("dog"), ""));
	CHECK(!strcmp(meant(""), ""));
	CHECK(!strcmp(meant("http://127.0.0.1/a-long-word-that-is-no-command"), ""));
}

int main(void)
{
	RUN(slips_are_seen_through);
	RUN(other_words_are_let_be);
	return 0;
}
