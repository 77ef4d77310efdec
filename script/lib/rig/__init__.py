# SPDX-License-Identifier: Apache-2.0
"""What demo and bench stand on: an emulated line, a web server, processes that end with us."""
