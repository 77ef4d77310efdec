/* SPDX-License-Identifier: Apache-2.0 */
/* The contract, over a tape file. */
#include "check.h"
#include "contract.h"
#include "scratch.h"

#include <hither/backend.h>
#include <hither/tape.h>

static char url[PATH_MAX + 16];

static int open_tape(void *user, bool writable, struct hither_backend **out,
                     struct hither_error *err)
{
	struct hither_backend_options options = {.writable = writable};
	return hither_backend_open(url, &options, out, err);
}

int main(void)
{
	char folder[PATH_MAX];
	struct hither_error err = {0};
	scratch_make(folder);
	snprintf(url, sizeof url, "tape:%s/t", folder);
	CHECK_OK(hither_tape_format(url + 5, 4 << 20, 1 << 30, false, &err));
	contract_check(&(struct contract_subject){.name = "tape",
	                                          .open = open_tape,
	                                          .writable = true,
	                                          .exclusive = true,
	                                          .keeps = true});
	scratch_remove(folder);
	return 0;
}
