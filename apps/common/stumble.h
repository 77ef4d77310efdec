/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with the options of a program that asks getopt_long(3) itself. */
#ifndef HITHER_APP_STUMBLE_H
#define HITHER_APP_STUMBLE_H

#include <getopt.h>

enum { STUMBLE_BYTES = 256 };

/*
 * After '?' or ':' (code) from getopt_long(), with opterr 0 and letters that have ':' in front
 * (after
 * '+'): "unknown option --bogus", "a value is missing after --size", in out, with what was meant if
 * that can be guessed. Returns out.
 */
const char *stumble(int code, char **argv, const struct option *options, char out[STUMBLE_BYTES]);

#endif
