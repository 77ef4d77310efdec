/* SPDX-License-Identifier: Apache-2.0 */
/* Built without the libraries that sealing takes. */
#include <errno.h>
#include <hither/layer.h>

int hither_layer_seal(struct hither_backend *inner, enum hither_pack pack, bool encrypt,
                      struct hither_backend **out, struct hither_error *err)
{
	return hither_fail(err, -EOPNOTSUPP,
	                   "seal: this build of hither can neither compress nor encrypt");
}
