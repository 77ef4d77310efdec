/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzzer is one function, fuzz_NAME.c, that aborts when a promise is broken. libFuzzer calls it
 * with inputs that it makes up (-Dfuzzers=true, with clang); replay.c with those of a folder, as a
 * test.
 */
#ifndef HITHER_TESTS_FUZZ_H
#define HITHER_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* data: size bytes, of no alignment, without a final 0. Always returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
