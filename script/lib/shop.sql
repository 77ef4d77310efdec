-- SPDX-License-Identifier: Apache-2.0
-- The demo's database: a web shop, about 1 GB. Nothing syncs: it is made anew if making it is cut short.
PRAGMA page_size=4096;
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
PRAGMA cache_size=-200000;
PRAGMA locking_mode=EXCLUSIVE;
PRAGMA temp_store=MEMORY;
PRAGMA threads=2;
CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, city TEXT, email TEXT, since INTEGER);
CREATE TABLE product(id INTEGER PRIMARY KEY, name TEXT, price INTEGER, description TEXT);
CREATE TABLE purchase(id INTEGER PRIMARY KEY, customer INTEGER, day INTEGER, total INTEGER, address TEXT, remark TEXT);
CREATE TABLE item(purchase INTEGER, line INTEGER, product INTEGER, quantity INTEGER, price INTEGER, label TEXT, PRIMARY KEY(purchase,line)) WITHOUT ROWID;
BEGIN;
INSERT INTO customer WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<300000)
 SELECT i, printf('Customer %06d', i), printf('City %03d', i*7919%500), printf('customer%d@example.org', i), i*37%3650 FROM n;
INSERT INTO product WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<20000)
 SELECT i, printf('Product %05d', i), 100+i*7907%9900, hex(randomblob(200)) FROM n;
INSERT INTO purchase WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<2000000)
 SELECT i, i*7919%300000+1, i/800, 500+i*104729%50000, printf('%d Long Street, Building %d, City %03d', i*31%9999, i*17%97, i*13%500), hex(randomblob(95)) FROM n;
INSERT INTO item WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i+1 FROM n WHERE i<6000000)
 SELECT i/3+1, i%3+1, i*7901%20000+1, i%5+1, 100+i*7907%9900, printf('batch %08d, shelf %04d', i*31, i%9973) FROM n;
CREATE INDEX purchase_customer ON purchase(customer, day);
CREATE INDEX purchase_day ON purchase(day, total);
CREATE INDEX item_product ON item(product, quantity, price);
COMMIT;
