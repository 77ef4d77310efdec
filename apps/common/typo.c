/* SPDX-License-Identifier: Apache-2.0 */
#include "typo.h"

#include <string.h>

enum { MOST_LETTERS = 31, MOST_SLIPS = 2 };

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* The optimal string alignment distance: edits, and swaps of neighbours. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned d[MOST_LETTERS + 1][MOST_LETTERS + 1];
	for (unsigned i = 0; i <= a_len; i++)
		d[i][0] = i;
	for (unsigned k = 0; k <= b_len; k++)
		d[0][k] = k;
	for (size_t i = 1; i <= a_len; i++)
		for (size_t k = 1; k <= b_len; k++) {
			unsigned kept = d[i - 1][k - 1] + (a[i - 1] != b[k - 1]);
			d[i][k] = least(kept, least(d[i - 1][k], d[i][k - 1]) + 1);
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
				d[i][k] = least(d[i][k], d[i - 2][k - 2] + 1);
		}
	return d[a_len][b_len];
}

void typo_consider(struct typo *t, const char *word)
{
	size_t typed_len = strlen(t->typed), len = strlen(word);
	if (typed_len > MOST_LETTERS || len > MOST_LETTERS)
		return;
	unsigned slips = distance(t->typed, typed_len, word, len);
	if (slips > MOST_SLIPS || slips * 2 > len || (t->meant && slips >= t->distance))
		return;
	t->meant = word;
	t->distance = slips;
}
