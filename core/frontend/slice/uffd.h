/* SPDX-License-Identifier: Apache-2.0 */
/* A userfaultfd and the calls on it. Addresses and lengths are whole pages. 0 or -errno. */
#ifndef HITHER_SLICE_UFFD_H
#define HITHER_SLICE_UFFD_H

#include "kernel_abi.h"

#include <hither/error.h>
#include <stdbool.h>
#include <stddef.h>

struct uffd {
	int fd;
	uint64_t features; /* UFFD_FEATURE_* that are on */
	bool kernel_faults;
};

/* For tests: how this kernel shall seem to refuse a userfaultfd (-errno), features that it shall
 * seem to lack, and PAGEMAP_SCAN. */
extern int uffd_hidden;
extern int uffd_protect_fails; /* -errno, where it should protect */
extern uint64_t uffd_hidden_features;
extern bool uffd_hide_pagemap_scan;

/* Which features are there? -ENOSYS or -EPERM: none at all. */
int uffd_probe(bool user_only, uint64_t *features, struct hither_error *err);
int uffd_open(struct uffd *u, bool user_only, uint64_t features, struct hither_error *err);
int uffd_register(const struct uffd *u, void *addr, size_t len, bool write_protect,
                  struct hither_error *err);
/* Map pages that are in the memfd, and wake who waits for them. Those mapped already stay as they
 * are. -EFAULT: some are not in the memfd. */
int uffd_continue(const struct uffd *u, const void *addr, size_t len, bool protect);
/* Put pages that are not in the memfd yet into it, mapped, and wake who waits for them. What was
 * done before an error stays. -EEXIST: one is there already. */
int uffd_copy(const struct uffd *u, void *addr, const void *from, size_t len);
/* One page; -EEXIST: it is mapped. */
int uffd_continue_page(const struct uffd *u, const void *addr, bool protect);
/* Write-protect, or not any more (wakes who waits to write). */
int uffd_protect(const struct uffd *u, const void *addr, size_t len, bool on);
int uffd_wake(const struct uffd *u, const void *addr, size_t len);
/* Whoever touches these pages, or waits for them, gets SIGBUS. Without UFFD_FEATURE_POISON they
 * must be this process's. */
int uffd_fail_pages(const struct uffd *u, void *addr, size_t len);

#endif
