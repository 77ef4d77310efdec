#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# in_vm.sh COMMAND...: run it in a virtual machine whose kernel has what this one may lack (ublk, an
# NBD client, swap). Exit 77 where there is no such machine.
set -euo pipefail
guest_run="$(dirname "${BASH_SOURCE[0]}")/../../../shared/vm/guest-run"
[ -x "$guest_run" ] || { echo "skipped: ../shared/vm/guest-run is missing"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || { echo "skipped: qemu-system-x86_64 is missing"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
code=0
"$guest_run" -m 1G -t "${VM_SECONDS:-580}" -w "$work" "$@" </dev/null || code=$?
[ "$code" != 124 ] || echo "in_vm.sh: the time was up (VM_SECONDS)"
[ "$code" != 125 ] || { echo "skipped: the virtual machine does not start"; exit 77; }
exit "$code"
