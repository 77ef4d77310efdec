#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bench's database: a web shop of about 1 GB, the same bytes' worth each time.

Usage: shop.py PATH [SCALE]; SCALE 1 is 1 GB. Three tables with foreign keys, secondary indexes and a
full-text index. Few customers buy most, few products sell most, few words make most of the text;
purchases lie in order of time, so that those of one customer are scattered.
"""
import os
import subprocess
import sys

# A number in [0, 1) for each i, as good as random; cubed it is the skew.
U = "((({i}) * 2654435761 + {salt}) % 4294967296 / 4294967296.0)"

SQL = """
PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-400000;
PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY; PRAGMA threads=2;
CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT, name TEXT, city TEXT, street TEXT,
  since INTEGER);
CREATE TABLE product(id INTEGER PRIMARY KEY, name TEXT, price INTEGER, category INTEGER,
  description TEXT);
CREATE TABLE purchase(id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer,
  product INTEGER REFERENCES product, day INTEGER, quantity INTEGER, total INTEGER, remark TEXT);
CREATE TEMP TABLE syllable(i INTEGER PRIMARY KEY, s TEXT);
INSERT INTO syllable SELECT key, value FROM json_each('["ba","ce","di","fo","gu","ha","je","ki","lo",
  "mu","na","pe","ri","so","tu","va","we","xi","zo","cha"]');
CREATE TEMP TABLE word(nr INTEGER PRIMARY KEY, w TEXT);
INSERT INTO word SELECT a.i * 400 + b.i * 20 + c.i, c.s || b.s || a.s
  FROM syllable a, syllable b, syllable c;
BEGIN;
WITH n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<{customers}) INSERT INTO customer
  SELECT i, printf('user%d@%s.example', i * 7919 % {customers}, w), printf('Customer %d', i),
  printf('City %d', i * 31 % 977), printf('%d %s Street, %s Court', i % 399, w, w), i % 3650
  FROM n JOIN word ON word.nr = n.i * 7 % 8000;
WITH n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<{products}),
  k(j) AS (VALUES(1) UNION ALL SELECT j+1 FROM k WHERE j<34) INSERT INTO product
  SELECT n.i, printf('Product %d', n.i), 100 + n.i * 7907 % 9900, n.i % 211,
  (SELECT group_concat(w, ' ') FROM k CROSS JOIN word
   ON word.nr = CAST(8000 * {u_word} * {u_word} * {u_word} AS INTEGER)) FROM n;
WITH n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<{purchases}) INSERT INTO purchase
  SELECT i, 1 + CAST({customers} * {u_c} * {u_c} AS INTEGER),
  1 + CAST({products} * {u_p} * {u_p} * {u_p} AS INTEGER), i * 3650 / {purchases}, 1 + i % 4,
  500 + i * 104729 % 50000, printf('order %08x, shelf %d, carrier %d, thank you', i * 48271, i % 9973,
  i % 17) FROM n;
CREATE INDEX customer_email ON customer(email);
CREATE INDEX purchase_customer ON purchase(customer, day);
CREATE INDEX purchase_product ON purchase(product, day);
CREATE VIRTUAL TABLE product_text USING fts5(name, description, content='product', content_rowid='id');
INSERT INTO product_text(product_text) VALUES('rebuild');
COMMIT;
"""


def make(path, scale=1.0):
    numbers = {"customers": int(700000 * scale), "products": int(230000 * scale),
               "purchases": int(7600000 * scale)}
    sql = SQL.format(u_word=U.format(i="n.i * 41 + k.j", salt="n.i * 977"),
                     u_c=U.format(i="i", salt=12345), u_p=U.format(i="i * 3", salt=777), **numbers)
    unfinished = f"{path}.{os.getpid()}"
    try:
        subprocess.run(["sqlite3", "-init", "/dev/null", "-bail", unfinished], input=sql, text=True,
                       check=True, stdout=subprocess.DEVNULL)
        os.rename(unfinished, path)
    finally:
        if os.path.exists(unfinished):
            os.unlink(unfinished)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    make(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
