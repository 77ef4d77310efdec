# SPDX-License-Identifier: Apache-2.0
"""hither beside its peers, measured in one run; see main.py."""
