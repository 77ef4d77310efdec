/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody who mistyped a word probably meant. */
#ifndef HITHER_APP_TYPO_H
#define HITHER_APP_TYPO_H

/* The best guess so far. Zero-initialise, but for typed. */
struct typo {
	const char *typed;
	const char *meant; /* NULL: nothing is near */
	unsigned distance; /* of meant */
};

/*
 * Could it be this one? It could if two slips at most lead there: a letter missing, too many, wrong
 * or swapped with the next, each; but no more than half of the word.
 */
void typo_consider(struct typo *t, const char *word);

#endif
