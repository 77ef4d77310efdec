/* SPDX-License-Identifier: Apache-2.0 */
/* A unit test is a program: RUN(test) for each, CHECK... inside. Exit 0 passed, 1 failed, 77
 * skipped. */
#ifndef HITHER_TESTS_CHECK_H
#define HITHER_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #cond);   \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long check_a_ = (long long)(a), check_b_ = (long long)(b);                    \
		if (check_a_ != check_b_) {                                                        \
			fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld)\n", __FILE__, __LINE__,  \
			        #a, check_a_, #b, check_b_);                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* A call that returns 0 or -errno and fills err, a struct hither_error in scope. */
#define CHECK_OK(call)                                                                             \
	do {                                                                                       \
		int check_r_ = (call);                                                             \
		if (check_r_) {                                                                    \
			fprintf(stderr, "%s:%d: %s: %d: %s\n", __FILE__, __LINE__, #call,          \
			        check_r_, err.message);                                            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define RUN(test)                                                                                  \
	do {                                                                                       \
		printf("  " #test "\n");                                                           \
		fflush(stdout);                                                                    \
		test();                                                                            \
	} while (0)

#define SKIP(why)                                                                                  \
	do {                                                                                       \
		printf("skipped: %s\n", why);                                                      \
		exit(77);                                                                          \
	} while (0)

#endif
