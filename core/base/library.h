/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shared library that is loaded when it is first needed. libcurl and libnbd bring some forty
 * others along: loading those was two thirds of the time of a command that needs neither.
 *
 * Whoever calls such a library sees its header as ever. One file beside the callers (http_curl.c,
 * nbd_library.c) has the functions of that header, which go on to those that were found.
 */
#ifndef HITHER_BASE_LIBRARY_H
#define HITHER_BASE_LIBRARY_H

#include <hither/error.h>
#include <stddef.h>

struct hither_library_symbol {
	const char *name;
	void *function; /* where its address goes: a pointer to a pointer to a function */
};

/*
 * In such a file: FUNCTIONS(F) lists them, as F(name) each. Makes `real`, with a pointer of each
 * name and type, and `symbols`, which tells where they go.
 */
#define HITHER_LIBRARY_FUNCTIONS(FUNCTIONS)                                                        \
	static struct {                                                                            \
		FUNCTIONS(HITHER_LIBRARY_POINTER)                                                  \
	} real;                                                                                    \
	static const struct hither_library_symbol symbols[] = {FUNCTIONS(HITHER_LIBRARY_SYMBOL)}
#define HITHER_LIBRARY_POINTER(name) __typeof__(&(name)) name;
#define HITHER_LIBRARY_SYMBOL(name) {#name, &real.name},

struct hither_library {
	const char *const *files; /* sonames, until NULL: the first that will do is taken */
	const char *package;      /* Debian's, for the message */
	const struct hither_library_symbol *symbols;
	size_t symbol_count;
	void (*start)(void); /* called once, when all are found; NULL: nothing to do */
	bool loaded;
};

/*
 * Load it, unless it has been. It stays until the process ends: libraries of this kind leave
 * threads and handlers behind. Any thread; blocks on reading its files. 0; -ELIBACC: not there, or
 * without one of the symbols.
 */
int hither_library_load(struct hither_library *library, struct hither_error *err);

#endif
