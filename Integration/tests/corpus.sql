# Statements and their classes, one a line: what the classifier has to say, and what a standby has to say to it.
#
#   read | statement                          a standby runs it
#   read [SQLSTATE] | statement               a standby answers with this error
#   primary (words) | statement               with words of the reason
#   write (words) | statement
#
# A flag behind the class: +binds (what follows in the transaction needs the same server), +catalogue (functions or | 
# views and so on may be others behind it). `setup | statement` is run on the primary first, in this order;
# `function NAME VOLATILITY` and `unlogged NAME` are what the classifier knows of it, and what stands behind a name:
# `view NAME SCHEMA.FUNCTION VOLATILITY`, also with `operator`, `type`, `call` and `check`, `reads VIEW RELATION`,
# `row FUNCTION`, `sequence NAME`, `property PROPERTY NAME`.
#
# Read by Tests/SQLTests/CorpusTests.swift (classes) and Integration/tests/test_classification.py (reality).

setup | CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')
setup | CREATE TYPE pair AS (a int, b text)
setup | CREATE DOMAIN positive AS int CHECK (VALUE > 0)
setup | CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10, 2), tags text[], data jsonb, made timestamptz DEFAULT now(), doc tsvector, span int4range, place point, parent int, state mood, pr pair)
setup | INSERT INTO item SELECT n, 'item ' || n, n * 1.5, ARRAY['a', 'b' || n], jsonb_build_object('k', n, 'l', jsonb_build_array(n, 2)), '2024-01-01'::timestamptz + n * interval '1 day', to_tsvector('simple', 'word ' || n), int4range(n, n + 10), point(n, n), nullif(n / 2, 0), 'ok', (n, 'x'::text)::pair FROM generate_series(1, 50) n
setup | CREATE TABLE sale (id int PRIMARY KEY, item int REFERENCES item, quantity int, sold date) PARTITION BY RANGE (id)
setup | CREATE TABLE sale_low PARTITION OF sale FOR VALUES FROM (0) TO (100)
setup | CREATE TABLE sale_high PARTITION OF sale FOR VALUES FROM (100) TO (1000)
setup | INSERT INTO sale SELECT n, 1 + n % 50, n % 7 + 1, '2024-01-01'::date + n FROM generate_series(1, 200) n
setup | CREATE TABLE "Select" ("From" int, "order by" text, U&"\0061bc" int)
setup | CREATE TABLE child (extra text) INHERITS (item)
setup | CREATE VIEW cheap AS SELECT * FROM item WHERE price < 10
setup | CREATE MATERIALIZED VIEW total AS SELECT item, sum(quantity) AS quantity FROM sale GROUP BY item
setup | CREATE SEQUENCE counter
setup | CREATE UNLOGGED TABLE scratch (a int)
setup | CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1'
setup | CREATE FUNCTION item_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM item'
setup | CREATE FUNCTION items() RETURNS SETOF item LANGUAGE sql STABLE AS 'SELECT * FROM item'
setup | CREATE FUNCTION touch(int) RETURNS void LANGUAGE sql VOLATILE AS 'UPDATE item SET name = name WHERE id = $1'
setup | CREATE FUNCTION mixed(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'
setup | CREATE FUNCTION mixed(text) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'
setup | CREATE PROCEDURE work() LANGUAGE sql AS 'DELETE FROM item WHERE false'
setup | CREATE SCHEMA app
setup | CREATE FUNCTION app.lower(text, int) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1'
setup | CREATE FUNCTION app.known() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'
setup | CREATE AGGREGATE longest (text) (SFUNC = textcat, STYPE = text)
setup | CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)
setup | CREATE FUNCTION counted(int, int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT nextval('counter')::int $$
setup | CREATE OPERATOR +++! (LEFTARG = int, RIGHTARG = int, FUNCTION = counted)
setup | CREATE FUNCTION counted_mood(int) RETURNS mood LANGUAGE sql VOLATILE AS $$ SELECT nextval('counter'), 'ok'::mood; SELECT 'ok'::mood $$
setup | CREATE CAST (int AS mood) WITH FUNCTION counted_mood(int)
setup | CREATE VIEW counting AS SELECT nextval('counter')
setup | CREATE VIEW scratched AS SELECT * FROM scratch
setup | CREATE FUNCTION touched(item) RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('counter') $$
setup | CREATE TABLE part (a int) PARTITION BY LIST (a)
setup | CREATE UNLOGGED TABLE part_one PARTITION OF part FOR VALUES IN (1)
setup | CREATE VIEW locked AS SELECT * FROM item FOR UPDATE
setup | CREATE MATERIALIZED VIEW blank AS SELECT 1 AS a WITH NO DATA
setup | CREATE FUNCTION greeting(text DEFAULT nextval('counter')) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1'
setup | CREATE FUNCTION checked(int) RETURNS bool LANGUAGE sql VOLATILE AS $$ SELECT nextval('counter') > 0 $$
setup | CREATE DOMAIN counted_int AS int CHECK (checked(VALUE))
setup | CREATE TABLE counts (a counted_int)
setup | INSERT INTO counts VALUES (1)
setup | CREATE FUNCTION lies() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN nextval('counter'); END $$
function twice immutable
function lies stable
function item_count stable
function items stable
function touch volatile
function mixed volatile
function work volatile
function known stable
function longest immutable
unlogged scratch
unlogged part
property locking locked
property unpopulated blank
property foreign outside
function greeting stable
function checked volatile
call greeting pg_catalog.nextval volatile
type counted_int public.checked volatile
check counts public.checked volatile
function touched volatile
row touched
sequence counter
view counting pg_catalog.nextval volatile
reads scratched scratch
operator +++! public.counted volatile
operator === pg_catalog.int4eq immutable
type mood public.counted_mood volatile

# Nothing, comments, several statements
read | 
read | ;
read | ;;  ;
read | -- nothing
read | /* nothing /* at */ all */
read | SELECT 1;
read | SELECT 1; SELECT 2
read | SELECT 1;; SELECT 2;
read | /* one */ SELECT /* two /* nested */ */ 1 -- three
read | VALUES (1); TABLE item; SELECT
write (inserts into item) | SELECT 1; INSERT INTO item (id) VALUES (1000); SELECT 2
write (updates item) | SELECT * FROM pg_locks; UPDATE item SET name = 'x'
primary (locks rows) +binds | SELECT 1; SELECT 2 FOR UPDATE
primary (sets work_mem) +binds | SET work_mem = '1MB'; SELECT 1
write (transaction command among) +binds | BEGIN; SELECT 1; COMMIT
write (transaction command among) +binds | BEGIN; COMMIT
write (transaction command among) +binds | SELECT 1; ROLLBACK
write (transaction command among) +binds | SAVEPOINT a; SELECT 1
write (transaction command among) +binds | BEGIN; INSERT INTO item (id) VALUES (1)
write (DROP) +drops | SELECT 1; DROP TABLE item; SELECT 2

# SELECT: its clauses
read | SELECT
read | SELECT FROM item
read | SELECT 1
read | SELECT * FROM item
read | SELECT ALL id FROM item
read | SELECT DISTINCT name FROM item
read | SELECT DISTINCT ON (parent) parent, id FROM item ORDER BY parent, id DESC NULLS LAST
read | SELECT i.*, (i).name, (i.pr).a FROM item AS i
read | SELECT i.a FROM item AS i(a, b)
read | SELECT id AS "select", name nick, price "of course" FROM item
read | SELECT id FROM item WHERE name = 'it''s' AND price > 1.5e0 OR NOT price IS NULL
read | SELECT id FROM item WHERE name LIKE 'i%' ESCAPE '!' OR name NOT ILIKE '_' OR name SIMILAR TO '(a|b)'
read | SELECT id FROM item WHERE id BETWEEN 1 AND 10 AND id NOT BETWEEN SYMMETRIC 5 AND 3
read | SELECT id FROM item WHERE id IN (1, 2, 3) AND id NOT IN (SELECT parent FROM item WHERE parent IS NOT NULL)
read | SELECT id FROM item WHERE (id, name) IN ((1, 'a'), (2, 'b'), (3, 'c')) OR (id, name) > (1, 'a')
read | SELECT id FROM item WHERE id = ANY ('{1,2}') OR id <> ALL (ARRAY[1, 2]) OR id = SOME (SELECT 1)
read | SELECT id FROM item WHERE name IS DISTINCT FROM 'a' AND state IS NOT NULL AND (id > 1) IS NOT TRUE AND (id > 1) IS UNKNOWN IS FALSE
read | SELECT id FROM item WHERE EXISTS (SELECT FROM sale WHERE sale.item = item.id)
read | SELECT parent, count(*), sum(DISTINCT price), avg(price) FILTER (WHERE id > 3) FROM item GROUP BY parent HAVING count(*) > 1
read | SELECT parent, state, count(*), GROUPING(parent, state) FROM item GROUP BY GROUPING SETS ((parent), (state), ())
read | SELECT parent, state, count(*) FROM item GROUP BY ROLLUP (parent, state)
read | SELECT parent, state, count(*) FROM item GROUP BY CUBE (parent, (state, parent))
read | SELECT parent, count(*) FROM item GROUP BY DISTINCT parent, ()
read | SELECT string_agg(name, ',' ORDER BY id), array_agg(id), percentile_cont(0.5) WITHIN GROUP (ORDER BY price) FROM item
read | SELECT id, row_number() OVER (), rank() OVER (PARTITION BY parent ORDER BY price), sum(price) OVER w FROM item WINDOW w AS (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES)
read | SELECT lag(price, 1, 0) OVER (ORDER BY id), first_value(id) OVER (ORDER BY id RANGE UNBOUNDED PRECEDING) FROM item
read | SELECT id FROM item ORDER BY id LIMIT 10 OFFSET 5
read | SELECT id FROM item ORDER BY id OFFSET 5 ROWS FETCH FIRST 3 ROWS ONLY
read | SELECT id FROM item ORDER BY price FETCH FIRST 3 ROWS WITH TIES
read | SELECT id FROM item ORDER BY price USING < LIMIT ALL
read | SELECT id FROM item TABLESAMPLE SYSTEM (50) REPEATABLE (1)
read | SELECT id FROM item TABLESAMPLE BERNOULLI (50)
read | SELECT id FROM ONLY item
read | SELECT id FROM item*
read | SELECT id FROM public.item
read | SELECT id FROM app.public.item
read | SELECT "From", "order by", U&"\0061bc" FROM "Select"
read | SELECT U&"!0061bc" UESCAPE '!' FROM "Select"
read | SELECT "Select"."From" FROM public."Select"

# SELECT: joins and what stands in FROM
read | SELECT * FROM item, sale WHERE item.id = sale.item
read | SELECT * FROM item JOIN sale ON sale.item = item.id
read | SELECT * FROM item INNER JOIN sale USING (id)
read | SELECT * FROM item LEFT OUTER JOIN sale USING (id) AS both_
read | SELECT * FROM item a RIGHT JOIN sale b ON a.id = b.item FULL JOIN item c ON c.id = a.parent
read | SELECT * FROM item CROSS JOIN sale LIMIT 1
read | SELECT * FROM item NATURAL JOIN total
read | SELECT * FROM (item JOIN sale ON sale.item = item.id) AS j
read | SELECT * FROM (SELECT id FROM item) AS sub (n)
read | SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v (n, t)
read | SELECT * FROM item, LATERAL (SELECT * FROM sale WHERE sale.item = item.id LIMIT 1) AS l
read | SELECT * FROM item LEFT JOIN LATERAL unnest(tags) WITH ORDINALITY AS t (tag, n) ON true
read | SELECT * FROM generate_series(1, 3) WITH ORDINALITY
read | SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY[1, 2])) AS r (a, b)
read | SELECT * FROM json_to_record('{"a":1}') AS r (a int, b text)
read | SELECT * FROM XMLTABLE('/r/x' PASSING xml '<r><x>1</x></r>' COLUMNS n int PATH '.', o FOR ORDINALITY)
read | SELECT * FROM cheap
read | SELECT * FROM total
read | SELECT * FROM sale_low
read | SELECT * FROM items()
read | SELECT i.name FROM items() AS i WHERE i.id = 1
read | SELECT tableoid::regclass, ctid, xmin, cmax FROM item
primary (reads counter, a sequence) | SELECT last_value FROM counter
read | TABLE item
read | TABLE ONLY public.item
read | VALUES (1, 'a'), (2, 'b'), (3, 'c') ORDER BY 1 LIMIT 2

# Set operations and common table expressions
read | SELECT id FROM item UNION SELECT id FROM sale
read | SELECT id FROM item UNION ALL SELECT id FROM sale UNION ALL VALUES (1)
read | (SELECT id FROM item INTERSECT SELECT id FROM sale) EXCEPT ALL SELECT id FROM sale_low
read | WITH a AS (SELECT id FROM item) SELECT * FROM a
read | WITH a AS MATERIALIZED (SELECT 1 AS n), b AS NOT MATERIALIZED (SELECT n FROM a) SELECT * FROM a, b
read | WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t
read | WITH RECURSIVE t AS (SELECT id, parent FROM item WHERE id = 9 UNION SELECT i.id, i.parent FROM item i JOIN t ON i.id = t.parent) SEARCH DEPTH FIRST BY id SET o CYCLE id SET c USING p SELECT * FROM t
read | WITH a AS (SELECT 1) (WITH b AS (SELECT 2) SELECT * FROM b) UNION SELECT * FROM a
read | SELECT (WITH a AS (SELECT 1 AS n) SELECT n FROM a)
read | WITH pg_locks AS (SELECT 1) SELECT * FROM pg_locks
read | WITH scratch AS (SELECT 1 AS a) SELECT s.a FROM scratch s
read | WITH RECURSIVE scratch AS (SELECT 1 AS a UNION SELECT a FROM scratch) SELECT * FROM scratch
primary (uses scratch) | WITH scratch AS (SELECT a FROM scratch) SELECT a FROM scratch
primary (uses scratch) | WITH x AS (SELECT 1) SELECT * FROM x, scratch
primary (uses scratch) | SELECT * FROM (WITH scratch AS (SELECT 1) SELECT * FROM scratch) s, scratch
primary (uses scratch) | WITH scratch AS (SELECT 1) SELECT * FROM public.scratch
primary (uses scratch) | WITH x AS (SELECT * FROM scratch), scratch AS (SELECT 1) SELECT * FROM scratch
write (deletes from item) | WITH gone AS (DELETE FROM item WHERE id = 1 RETURNING *) SELECT * FROM gone
write (inserts into item) | WITH new AS (INSERT INTO item (id) VALUES (1) RETURNING id), s AS (SELECT 1) SELECT * FROM s, new
write (updates item) | WITH a AS (SELECT 1), b AS (UPDATE item SET name = 'x' RETURNING id) SELECT * FROM a
write (deletes from item) | SELECT * FROM item WHERE id IN (WITH gone AS (DELETE FROM item RETURNING id) SELECT id FROM gone)
write (deletes from item) | (WITH gone AS (DELETE FROM item RETURNING id) SELECT id FROM gone) UNION SELECT 1
write (inserts into item) | WITH a AS (SELECT 1) INSERT INTO item (id) SELECT 99 FROM a

# Expressions
read | SELECT 1, -1, +1, 1.5, .5, 1., 1e10, 1.5E-3, 1E+5
read | SELECT 'a', 'it''s', E'a\'b\\', e'\u0061', U&'\0061', U&'d!0061' UESCAPE '!', N'n', B'101', X'1F', $$dollar$$, $tag$a $$ b$tag$
read | SELECT true, false, NULL, DEFAULT_VALUE FROM (SELECT 1 AS default_value) d
read | SELECT 1 + 2 - 3 * 4 / 5 % 6, 2 ^ 2, -(-1), - -1, |/ 25, @ -5, 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 2, 8 >> 1
read | SELECT 1 = 2, 1 <> 2, 1 != 2, 1 < 2, 1 <= 2, 1 > 2, 1 >= 2, 1=-1, 1<-1
read | SELECT 1 OPERATOR(pg_catalog.+) 2, 1 === 1, 1 OPERATOR(public.===) 1
read | SELECT '1'::int, CAST('1' AS int), int '1', '{1,2}'::int[], 1::numeric(10, 2), 'a'::varchar(5), 'a'::char, '1'::positive
read | SELECT date '2024-01-01', timestamp '2024-01-01 10:00', timestamp with time zone '2024-01-01', time(3) '10:00', interval '1' day, interval '1 2' day to hour, interval(3) '1 second'
read | SELECT 'now'::timestamptz, timestamptz 'today', make_interval(days => 1), make_date(2024, 1, 1)
read | SELECT double precision '1', float(24) '1', bit(3) '101', bit varying(5) '1', character varying(5) 'a', national character(3) 'a', dec(3) '1'
read | SELECT made AT TIME ZONE 'UTC', made::date + 1, extract(year FROM made), date_trunc('day', made) FROM item
read | SELECT CASE WHEN id > 1 THEN 'a' WHEN id > 2 THEN 'b' ELSE 'c' END, CASE id WHEN 1 THEN 2 END FROM item
read | SELECT coalesce(name, 'x'), nullif(id, 1), greatest(1, 2), least(1, 2) FROM item
read | SELECT ARRAY[1, 2], ARRAY[[1, 2], [3, 4]], ARRAY(SELECT id FROM item), tags[1], tags[1:2], tags[:1], tags[1:] FROM item
read | SELECT ROW(1, 'a'), (1, 'a'), ROW(), ROW(item.*) FROM item
read [42883] | SELECT (1, 1) OVERLAPS (1, 1)
read | SELECT (date '2024-01-01', date '2024-02-01') OVERLAPS (date '2024-01-15', interval '10 days')
read | SELECT data -> 'k', data ->> 'k', data #> '{l,0}', data #>> '{l}', data @> '{"k":1}', data ? 'k', data ?| ARRAY['a'], data ?& ARRAY['k'], data @? '$.l[*]', data @@ '$.k > 1', data - 'k', data || '{}' FROM item
read | SELECT data['k'], (data)['l'][0] FROM item
read | SELECT jsonb_path_query(data, '$.l[*]'), jsonb_set(data, '{k}', '2'), jsonb_agg(id), json_object_agg(id, name) FROM item GROUP BY data
read | SELECT doc @@ to_tsquery('simple', 'word & 1'), ts_rank(doc, plainto_tsquery('simple', 'word')), ts_headline('a b', 'a'::tsquery) FROM item
read | SELECT span && int4range(1, 5), upper(span), span @> 3, range_agg(span) FROM item GROUP BY span
read | SELECT place <-> point(0, 0), box '((0,0),(1,1))' @> place, circle(place, 1) FROM item
read | SELECT name ~ 'a', name !~* 'b', name ~~ 'c', regexp_replace(name, 'a', 'b', 'g'), name COLLATE "C" FROM item
read | SELECT position('a' IN name), substring(name FROM 1 FOR 2), substring(name, 2), trim(BOTH 'i' FROM name), trim(name), overlay(name PLACING 'x' FROM 1 FOR 1), normalize(name, NFC), name IS NFC NORMALIZED FROM item
read | SELECT format('%s %I %L', 1, 'a', 'b'), concat(1, 'a'), concat_ws(',', 1, 2), md5('a'), encode('a', 'hex'), to_char(now(), 'YYYY'), left('abc', 2), initcap('a')
read | SELECT abs(-1), ceil(1.5), round(1.55, 1), power(2, 3), mod(5, 3), width_bucket(5, 0, 10, 5), div(5, 2), gcd(4, 6), trunc(1.5)
read | SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(1 AS a), xmlconcat('<a/>', '<b/>'), xmlparse(DOCUMENT '<a/>'), xmlserialize(CONTENT '<a/>'::xml AS text), xmlpi(name x), xmlroot('<a/>'::xml, VERSION NO VALUE), xmlexists('/a' PASSING ('<a/>'::xml)), '<a/>'::xml IS DOCUMENT, xmlcomment('a'), xmlagg('<a/>'::xml)
read | SELECT text(1), date('2024-01-01'), float8(1), int4('1'), "char"('a'), name('a')
read | SELECT 'item'::regclass, 'twice'::regproc, 'int'::regtype, to_regclass('nothing'), 1::oid
read | SELECT CURRENT_DATE, CURRENT_TIME, CURRENT_TIMESTAMP(3), LOCALTIME, LOCALTIMESTAMP, CURRENT_USER, SESSION_USER, CURRENT_ROLE, USER, CURRENT_CATALOG, CURRENT_SCHEMA
read | SELECT now(), statement_timestamp(), clock_timestamp(), timeofday(), transaction_timestamp(), random(), gen_random_uuid(), current_query(), version(), current_database(), current_schema(), current_schemas(true)
read | SELECT pg_sleep(0), pg_typeof(1), pg_relation_size('item'), pg_size_pretty(1024::bigint), pg_column_size(1), pg_get_viewdef('cheap'), pg_get_functiondef('twice'::regproc), has_table_privilege('item', 'SELECT'), obj_description(1, 'pg_class'), pg_client_encoding(), pg_wal_lsn_diff('0/1', '0/0')
read | SELECT pg_catalog.lower('A'), pg_catalog.now(), "pg_catalog"."count"(*) FROM item
read | SELECT hashtext('a'), sha256('a'), convert_from('a', 'UTF8'), generate_subscripts(ARRAY[1], 1), lower(int4range(1, 2))
read | SELECT age(timestamp '2024-01-01'), justify_days(interval '40 days')
read [42P02] | SELECT $1
read [42P02] | SELECT $1::int, $2
read [42P02] | SELECT * FROM item WHERE id = $1 AND name = $2 LIMIT $3
read | SELECT twice(3), public.twice(4), item_count(), (SELECT twice(5)), longest(name) FROM item
read | SELECT * FROM item ORDER BY twice(id)
read | SELECT * FROM item i JOIN sale s ON twice(i.id) = s.id
read | SELECT count(*) FILTER (WHERE twice(id) > 2) OVER (ORDER BY twice(id)) FROM item
read | SELECT app.known(), known FROM (SELECT 1 AS known) k

# Users' functions that write, or that nobody knows
write (calls touch, which is VOLATILE) | SELECT touch(1)
write (calls touch) | SELECT public.touch(1)
write (calls touch) | SELECT * FROM touch(1)
write (calls touch) | SELECT 1 WHERE (SELECT touch(1)) IS NULL
write (calls touch) | SELECT 1 FROM item GROUP BY touch(id)
write (calls touch) | SELECT 1 FROM item ORDER BY touch(id)
write (calls touch) | SELECT 1 FROM item HAVING touch(1) IS NULL
write (calls touch) | SELECT 1 FROM item LIMIT (SELECT 1 FROM touch(1))
write (calls touch) | SELECT sum(1) OVER (PARTITION BY touch(id)) FROM item
write (calls touch) | SELECT sum(1) OVER w FROM item WINDOW w AS (ORDER BY touch(id))
write (calls touch) | SELECT count(*) FILTER (WHERE touch(1) IS NULL) FROM item
write (calls touch) | SELECT * FROM item JOIN sale ON touch(item.id) IS NULL
write (calls touch) | SELECT * FROM item, LATERAL (SELECT touch(item.id)) t
write (calls touch) | SELECT * FROM ROWS FROM (generate_series(1, 2), touch(1)) r
write (calls touch) | VALUES (1, touch(1))
write (calls touch) | SELECT CASE WHEN true THEN touch(1) END
write (calls touch) | SELECT ARRAY[touch(1)], ROW(touch(1)), (touch(1))::text
write (calls touch) | SELECT coalesce(touch(1)::text, 'a')
write (calls touch) | SELECT string_agg('a', ',' ORDER BY touch(1)) FROM item
write (calls touch) | WITH a AS (SELECT touch(1)) SELECT * FROM a
write (calls touch) | SELECT 1 UNION SELECT 2 FROM touch(1)
write (calls touch) | SELECT DISTINCT ON (touch(id)) id FROM item
write (calls touch) | SELECT * FROM item TABLESAMPLE SYSTEM ((SELECT 50 FROM touch(1)))
write (calls touch) | SELECT data[touch(1)::text] FROM item
write (calls touch) | SELECT x.* FROM XMLTABLE('/r' PASSING (SELECT '<r/>'::xml FROM touch(1)) COLUMNS n int) x
write (calls mixed, which is VOLATILE) | SELECT mixed(1)
write (calls unknown, which is not known) | SELECT unknown(1)
write (calls unknown) | SELECT app.unknown(1)
write (calls Twice) | SELECT "Twice"(1)
read | SELECT TWICE(1), Item_Count()
write (calls lower, which is not known) | SELECT app.lower('a', 1)
write (calls twice) | SELECT pg_catalog.twice(1)
write (calls nosuch) | SELECT length(nosuch('a'))

# Functions of PostgreSQL that write or need the primary
write (calls nextval, which changes a sequence) | SELECT nextval('counter')
write (calls nextval) | SELECT pg_catalog.nextval('counter')
write (calls nextval) | SELECT "nextval"('counter')
write (calls nextval) | SELECT U&"n\0065xtval"('counter')
write (calls nextval) | SELECT U&"n!0065xtval" UESCAPE '!' ('counter')
write (calls nextval) | SELECT NEXTVAL('counter'::regclass)
write (calls nextval) | SELECT nextval('counter'), touch(1)
write (calls nextval) | SELECT /* hidden */ nextval /* here */ ('counter')
write (calls nextval) | SELECT * FROM item WHERE id = (SELECT nextval('counter'))
write (calls nextval) | SELECT * FROM nextval('counter')
write (calls setval) | SELECT setval('counter', 5)
primary (calls currval, which asks what a sequence gave) +binds | SELECT currval('counter')
primary (calls lastval) +binds | SELECT lastval()
primary (calls pg_sequence_last_value) | SELECT pg_sequence_last_value('counter')
primary (takes or gives back a lock) +binds | SELECT pg_advisory_lock(1)
primary (calls pg_try_advisory_xact_lock) +binds | SELECT pg_try_advisory_xact_lock(1, 2)
primary (calls pg_advisory_unlock_all) +binds | SELECT pg_advisory_unlock_all()
write (calls lo_create) +binds | SELECT lo_create(0)
write (calls lo_import) +binds | SELECT lo_import('/etc/hostname')
write (calls lo_unlink) +binds | SELECT lo_unlink(1)
write (calls lowrite) +binds | SELECT lowrite(0, 'a')
read [42704] | SELECT lo_get(1)
primary (calls lo_open, which opens or reads a large object) +binds | SELECT lo_open(1, 262144)
write (takes a transaction ID) +binds | SELECT txid_current()
write (takes a transaction ID) +binds | SELECT pg_current_xact_id()
primary (calls txid_current_if_assigned) | SELECT txid_current_if_assigned()
primary (calls pg_current_snapshot) | SELECT pg_current_snapshot()
primary (calls txid_status) | SELECT txid_status(1)
write (calls pg_notify, which notifies) | SELECT pg_notify('a', 'b')
primary (calls set_config) +binds | SELECT set_config('app.user', '1', true)
read | SELECT current_setting('work_mem'), pg_catalog.current_setting('TimeZone'::text), CURRENT_SETTING ( 'app.user', true ), current_setting('server_version_num')::int
read | SELECT * FROM item WHERE name = current_setting('app.user', true)
primary (calls current_setting, which tells about its own node) | SELECT current_setting('transaction_read_only')
primary (calls current_setting) | SELECT current_setting('In_Hot_Standby', false)
primary (calls current_setting) | SELECT current_setting('default_transaction_read_only')
primary (calls current_setting) | SELECT current_setting('port')
primary (calls current_setting) | SELECT current_setting('shared_buffers'::text)
primary (calls current_setting) | SELECT current_setting('work_mem'), current_setting('cluster_name')
primary (calls current_setting) | SELECT current_setting('transaction_' || 'read_only')
primary (calls current_setting) | SELECT current_setting($1)
primary (calls current_setting) | SELECT current_setting(E'work_mem')
primary (calls current_setting) | SELECT current_setting(setting_name => 'work_mem')
primary (calls current_setting) | SELECT "current_setting"('work_mem')
primary (calls current_setting) | SELECT current_setting(name) FROM (VALUES ('in_hot_standby')) v (name)
primary (calls current_setting) | SELECT current_setting('martlet.lsn', true)
primary (calls setseed) +binds | SELECT setseed(0.5)
primary (WAL position) | SELECT pg_current_wal_lsn()
primary (calls pg_current_wal_insert_lsn) | SELECT pg_current_wal_insert_lsn()
primary (calls pg_last_wal_replay_lsn, which tells about its own node) | SELECT pg_last_wal_replay_lsn()
primary (calls pg_walfile_name) | SELECT pg_walfile_name('0/1')
write (calls pg_switch_wal, which writes WAL) | SELECT pg_switch_wal()
write (calls pg_create_restore_point) | SELECT pg_create_restore_point('a')
write (calls pg_logical_emit_message) | SELECT pg_logical_emit_message(true, 'a', 'b')
write (calls pg_logical_slot_get_changes) +binds | SELECT * FROM pg_logical_slot_get_changes('s', NULL, NULL)
write (calls pg_create_logical_replication_slot) +binds | SELECT pg_create_logical_replication_slot('s', 'test_decoding')
write (calls pg_replication_origin_create) +binds | SELECT pg_replication_origin_create('o')
primary (calls pg_export_snapshot) +binds | SELECT pg_export_snapshot()
write (runs queries that the statement does not show) | SELECT query_to_xml('SELECT 1', true, false, '')
write (runs queries that the statement does not show) | SELECT pg_catalog.query_to_xml($1, true, false, '')
write (runs queries that the statement does not show) | SELECT query_to_xml_and_xmlschema('SELECT 1', true, false, '')
read | SELECT table_to_xml('sale', true, false, ''), table_to_xmlschema('sale', true, false, ''), table_to_xml_and_xmlschema('sale', true, false, '')
read | SELECT query_to_xmlschema('SELECT 1', true, false, ''), schema_to_xmlschema('app', true, false, ''), database_to_xmlschema(true, false, '')
read [0A000] | SELECT table_to_xml('scratch', true, false, '')
read | SELECT schema_to_xml('app', true, false, ''), schema_to_xml_and_xmlschema('app', true, false, '')
read [55000] | SELECT database_to_xml(true, false, '')
primary (calls cursor_to_xml, which reads from a cursor) +binds | SELECT cursor_to_xml('c', 1, true, false, '')
write (runs queries that the statement does not show) | SELECT ts_stat('SELECT doc FROM item')
write (runs queries that the statement does not show) | SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')
primary (calls pg_is_in_recovery, which tells about its own node) | SELECT pg_is_in_recovery()
primary (calls pg_is_in_recovery) | SELECT * FROM pg_catalog.pg_is_in_recovery() AS r
primary (calls pg_is_in_recovery) | SELECT id FROM item WHERE NOT pg_is_in_recovery()
primary (calls inet_server_addr, which tells about its own node) | SELECT inet_server_addr(), inet_server_port()
primary (calls pg_postmaster_start_time) | SELECT pg_postmaster_start_time()
primary (calls pg_conf_load_time) | SELECT pg_conf_load_time()
primary (calls pg_backend_pid) | SELECT pg_backend_pid()
primary (calls pg_last_xact_replay_timestamp) | SELECT now() - pg_last_xact_replay_timestamp()
primary (calls pg_last_wal_receive_lsn) | SELECT pg_last_wal_receive_lsn()
primary (calls pg_control_checkpoint) | SELECT * FROM pg_control_checkpoint()
primary (calls pg_control_recovery) | SELECT * FROM pg_control_recovery()
primary (calls pg_show_all_settings) | SELECT * FROM pg_show_all_settings()
primary (calls pg_jit_available) | SELECT pg_jit_available()
primary (calls pg_tablespace_size) | SELECT pg_tablespace_size('pg_default')
read | SELECT version(), inet_client_addr(), pg_database_size('app')
primary (calls pg_cancel_backend) | SELECT pg_cancel_backend(1)
primary (calls pg_stat_reset) | SELECT pg_stat_reset()
primary (calls pg_stat_get_activity) | SELECT * FROM pg_stat_get_activity(NULL)
primary (calls pg_ls_dir) | SELECT pg_ls_dir('.')
primary (calls pg_read_file) | SELECT pg_read_file('PG_VERSION')
write (calls gin_clean_pending_list) | SELECT gin_clean_pending_list('i')
write (calls brin_summarize_new_values) | SELECT brin_summarize_new_values('i')
primary (calls pg_backup_start) +binds | SELECT pg_backup_start('a')
primary (calls pg_promote) | SELECT pg_promote()

# Relations that are not the same everywhere
primary (reads pg_stat_activity, which tells about its own node) | SELECT * FROM pg_stat_activity
primary (pg_stat_user_tables) | SELECT * FROM pg_catalog.pg_stat_user_tables
primary (pg_statio_all_tables) | SELECT * FROM item, pg_statio_all_tables
primary (pg_stat_replication) | TABLE pg_stat_replication
primary (pg_locks) | SELECT * FROM pg_locks
primary (pg_locks) | SELECT 1 WHERE EXISTS (SELECT FROM pg_locks)
primary (pg_cursors) | SELECT * FROM pg_cursors
primary (pg_prepared_statements) | SELECT * FROM pg_prepared_statements
primary (pg_prepared_xacts) | SELECT * FROM pg_prepared_xacts
primary (pg_replication_slots) | SELECT * FROM pg_replication_slots
primary (pg_settings) | SELECT * FROM pg_settings
primary (pg_file_settings) | SELECT * FROM pg_file_settings
primary (pg_hba_file_rules) | SELECT * FROM pg_hba_file_rules
primary (pg_shmem_allocations) | SELECT * FROM pg_shmem_allocations
primary (pg_backend_memory_contexts) | SELECT * FROM pg_backend_memory_contexts
primary (pg_sequences, which is ahead) | SELECT * FROM pg_sequences
primary (uses scratch, which is not logged) | SELECT * FROM scratch
primary (uses scratch) | SELECT * FROM public.scratch s JOIN item ON true
primary (uses scratch) | COPY scratch TO STDOUT
primary (uses item, a temporary table) +binds | SELECT * FROM pg_temp.item
primary (uses x, a temporary table) +binds | SELECT * FROM pg_temp_3.x
read | SELECT * FROM pg_class
read | SELECT * FROM pg_catalog.pg_attribute
read | SELECT * FROM pg_statistic LIMIT 1
read | SELECT * FROM pg_stats LIMIT 1
read | SELECT * FROM pg_tables
read | SELECT * FROM pg_indexes
read | SELECT * FROM pg_roles
read | SELECT * FROM pg_extension
read | SELECT * FROM pg_publication
read | SELECT * FROM pg_ts_config
read | SELECT * FROM information_schema.tables
read | SELECT * FROM information_schema.columns WHERE table_name = 'item'
read | SELECT c.relname, pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1
read | SELECT scratch.id FROM item scratch
read | SELECT scratch FROM (SELECT 1 AS scratch) x

# Locks and SELECT INTO
primary (locks rows (FOR UPDATE)) +binds | SELECT * FROM item FOR UPDATE
primary (locks rows (FOR NO KEY UPDATE)) +binds | SELECT * FROM item FOR NO KEY UPDATE
primary (locks rows (FOR SHARE)) +binds | SELECT * FROM item FOR SHARE
primary (locks rows (FOR KEY SHARE)) +binds | SELECT * FROM item FOR KEY SHARE
primary (locks rows) +binds | SELECT * FROM item i, sale s FOR UPDATE OF i NOWAIT
primary (locks rows) +binds | SELECT * FROM item FOR UPDATE SKIP LOCKED LIMIT 1
primary (locks rows) +binds | SELECT * FROM (SELECT * FROM item FOR SHARE) s
primary (locks rows) +binds | SELECT (SELECT id FROM item LIMIT 1 FOR UPDATE)
primary (locks rows) +binds | WITH a AS (SELECT * FROM item FOR UPDATE) SELECT * FROM a
primary (locks rows) +binds | SELECT 1 WHERE 1 IN (SELECT id FROM item FOR KEY SHARE)
primary (locks rows) +binds | (SELECT * FROM item FOR UPDATE)
read | SELECT * FROM item FOR READ ONLY
write (calls nextval) +binds | SELECT nextval('counter') FROM item FOR UPDATE
write (SELECT INTO) +catalogue | SELECT * INTO copy FROM item
write (SELECT INTO) | SELECT 1 INTO TEMP copy
write (SELECT INTO) +catalogue | SELECT 1 INTO UNLOGGED TABLE copy
write (SELECT INTO) +catalogue | WITH a AS (SELECT 1) SELECT * INTO copy FROM a
write (SELECT INTO) +catalogue | SELECT 1 INTO copy UNION SELECT 2

# Data modification
write (inserts into item) | INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'b') ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE item.id > 1 RETURNING *
write (inserts into item) | INSERT INTO item DEFAULT VALUES
write (inserts into item) | INSERT INTO item SELECT * FROM item
write (inserts into item) | INSERT INTO public.item AS i OVERRIDING SYSTEM VALUE TABLE item
write (inserts into item) | insert into item values (1)
write (inserts into item) | /* comment */ INSERT INTO item VALUES (1)
write (updates item) | UPDATE item SET name = 'x', (price, id) = (1, 2), tags[1] = 'y' FROM sale WHERE sale.item = item.id RETURNING item.*
write (updates item) | UPDATE ONLY item SET name = DEFAULT WHERE CURRENT OF c
write (updates item) | UPDATE item SET (name, price) = (SELECT 'a', 1)
write (deletes from item) | DELETE FROM item USING sale WHERE sale.item = item.id RETURNING id
write (deletes from item) | DELETE FROM item
write (merges into item) | MERGE INTO item USING sale ON sale.item = item.id WHEN MATCHED THEN UPDATE SET name = 'x' WHEN NOT MATCHED THEN INSERT (id) VALUES (1)
write (merges into item) | WITH s AS (SELECT 1 AS id) MERGE INTO item i USING s ON s.id = i.id WHEN MATCHED AND i.id > 1 THEN DELETE WHEN NOT MATCHED THEN DO NOTHING
write (TRUNCATE) | TRUNCATE item
write (TRUNCATE) | TRUNCATE TABLE ONLY item, sale RESTART IDENTITY CASCADE

# COPY
read | COPY item TO STDOUT
read | COPY item (id, name) TO STDOUT WITH (FORMAT csv, HEADER)
read | COPY (SELECT * FROM item WHERE id > 1) TO STDOUT
read | COPY (VALUES (1)) TO STDOUT (FORMAT binary)
read | COPY (WITH a AS (SELECT 1) SELECT * FROM a) TO STDOUT CSV HEADER
read | COPY item TO STDOUT DELIMITERS '|' WITH NULL AS ''
write (COPY FROM) | COPY item FROM STDIN
write (COPY FROM) | COPY item FROM '/tmp/file'
write (COPY FROM) | COPY item (id) FROM STDIN WITH (FORMAT csv) WHERE id > 1
write (COPY FROM) | COPY item FROM PROGRAM 'echo 1'
write (file of the server) | COPY item TO '/tmp/file'
write (PROGRAM) | COPY (SELECT 1) TO PROGRAM 'cat'
write (calls nextval) | COPY (SELECT nextval('counter')) TO STDOUT
write (deletes from item) | COPY (DELETE FROM item RETURNING *) TO STDOUT
write (inserts into item) | COPY (WITH a AS (INSERT INTO item VALUES (1) RETURNING id) SELECT * FROM a) TO STDOUT
primary (locks rows) +binds | COPY (SELECT * FROM item FOR UPDATE) TO STDOUT
primary (pg_locks) | COPY (SELECT * FROM pg_locks) TO STDOUT

# EXPLAIN
read | EXPLAIN SELECT * FROM item
read | EXPLAIN ANALYZE SELECT * FROM item
read | EXPLAIN VERBOSE SELECT 1
read | EXPLAIN ANALYZE VERBOSE SELECT 1
read | EXPLAIN (ANALYZE, BUFFERS, FORMAT json, TIMING off, SUMMARY, WAL, SETTINGS) SELECT 1
read | EXPLAIN (COSTS off) VALUES (1)
read | EXPLAIN INSERT INTO item VALUES (1)
read | EXPLAIN INSERT INTO item (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x' RETURNING *
read | EXPLAIN INSERT INTO sale SELECT * FROM sale
read | EXPLAIN VERBOSE UPDATE item SET name = 'x' FROM sale WHERE sale.item = item.id
read | EXPLAIN DELETE FROM item USING sale WHERE sale.item = item.id
read | EXPLAIN MERGE INTO item USING sale ON sale.item = item.id WHEN MATCHED THEN UPDATE SET name = 'x' WHEN NOT MATCHED THEN INSERT (id) VALUES (1)
read | EXPLAIN WITH gone AS (DELETE FROM item RETURNING *) SELECT * FROM gone
read | EXPLAIN SELECT nextval('counter')
read | EXPLAIN SELECT touch(1), pg_advisory_lock(1), txid_current()
read | EXPLAIN SELECT last_value FROM counter
read | EXPLAIN SELECT * FROM pg_locks
read | EXPLAIN SELECT * FROM item FOR UPDATE
read | EXPLAIN SELECT * FROM counting
read | EXPLAIN SELECT 1 +++! 2, 1::mood
read | EXPLAIN SELECT * FROM blank
read | EXPLAIN (ANALYZE off) DELETE FROM item
read | EXPLAIN (ANALYZE false, COSTS off, FORMAT yaml) DELETE FROM item
read | EXPLAIN CREATE TABLE copy AS SELECT 1
read | EXPLAIN CREATE UNLOGGED TABLE copy AS SELECT * FROM item
read | EXPLAIN CREATE MATERIALIZED VIEW copy AS SELECT 1
read | EXPLAIN REFRESH MATERIALIZED VIEW total
read | EXPLAIN DECLARE c CURSOR FOR SELECT 1
read | EXPLAIN DECLARE c CURSOR FOR SELECT * FROM item FOR UPDATE
primary (explains a statement that uses scratch, which is not logged) | EXPLAIN SELECT * FROM scratch
primary (explains a statement that uses scratch) | EXPLAIN INSERT INTO scratch VALUES (1)
primary (explains a statement that uses part, which is not logged) | EXPLAIN DELETE FROM part
primary (explains a statement that reads scratched, which uses scratch) | EXPLAIN UPDATE item SET name = 'x' FROM scratched
primary (explains a statement that uses x, a temporary table) | EXPLAIN INSERT INTO pg_temp.x VALUES (1)
primary (explains a prepared statement of the session) +binds | EXPLAIN EXECUTE plan
write (EXPLAIN ANALYZE of a statement that deletes from item) | EXPLAIN ANALYZE DELETE FROM item
write (EXPLAIN ANALYZE) | EXPLAIN (ANALYZE) INSERT INTO item VALUES (1)
write (EXPLAIN ANALYZE) | EXPLAIN (ANALYZE true) DELETE FROM item
write (EXPLAIN ANALYZE) | EXPLAIN (ANALYZE on, VERBOSE) DELETE FROM item
write (EXPLAIN ANALYZE) | EXPLAIN (ANALYZE 1) DELETE FROM item
write (EXPLAIN ANALYZE) | EXPLAIN (ANALYZE 0) DELETE FROM item
write (EXPLAIN ANALYZE) | EXPLAIN (ANALYZE 'off') DELETE FROM item
write (EXPLAIN ANALYZE) | EXPLAIN (ANALYZE off, ANALYZE) DELETE FROM item
write (EXPLAIN ANALYZE) | EXPLAIN (analyze, VERBOSE) SELECT touch(1)
write (EXPLAIN ANALYZE) | EXPLAIN ANALYSE DELETE FROM item
write (EXPLAIN ANALYZE) +catalogue | EXPLAIN ANALYZE CREATE TABLE copy AS SELECT 1
write (EXPLAIN ANALYZE) +binds +code | EXPLAIN ANALYZE EXECUTE plan
primary (EXPLAIN ANALYZE) +binds | EXPLAIN ANALYZE SELECT * FROM item FOR UPDATE

# Transactions
primary (begins a transaction) | BEGIN
primary (begins) | BEGIN WORK
primary (begins) | BEGIN TRANSACTION READ ONLY
primary (begins) | BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE
primary (begins) | START TRANSACTION READ WRITE
primary (commits) | COMMIT
primary (commits) | END TRANSACTION AND NO CHAIN
primary (rolls a transaction back) | ROLLBACK
primary (rolls a transaction back) | ABORT WORK AND CHAIN
primary (modes of the transaction) | SET TRANSACTION ISOLATION LEVEL REPEATABLE READ
primary (modes of the transaction) | SET TRANSACTION READ ONLY
primary (takes a snapshot) +binds | SET TRANSACTION SNAPSHOT '00000003-0000001B-1'
primary (modes of the session's transactions) +binds | SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
primary (sets a savepoint) +binds | SAVEPOINT a
primary (releases a savepoint) +binds | RELEASE a
primary (releases a savepoint) +binds | RELEASE SAVEPOINT a
primary (rolls back to a savepoint) +binds | ROLLBACK TO a
primary (rolls back to a savepoint) +binds | ROLLBACK WORK TO SAVEPOINT a
write (two-phase) +binds | PREPARE TRANSACTION 'a'
write (prepared transaction) +binds | COMMIT PREPARED 'a'
write (prepared transaction) +binds | ROLLBACK PREPARED 'a'
primary (locks a table) +binds | LOCK item
primary (locks a table) +binds | LOCK TABLE ONLY item, sale IN ACCESS SHARE MODE NOWAIT
primary (when constraints are checked) +binds | SET CONSTRAINTS ALL DEFERRED

# The session
primary (sets work_mem for the session) +binds | SET work_mem = '1MB'
primary (sets search_path for the session) +binds | SET search_path TO app, public
primary (sets work_mem for the transaction) +binds | SET LOCAL work_mem = '1MB'
primary (sets app.name for the session) +binds | SET SESSION app.name = 'me'
primary (sets timezone for the session) +binds | SET TIME ZONE 'UTC'
primary (sets role for the session) +binds | SET ROLE app
primary (sets session_authorization for the session) +binds | SET SESSION AUTHORIZATION app
primary (sets client_encoding for the session) +binds | SET NAMES 'utf8'
primary (resets) +binds | SET work_mem TO DEFAULT
primary (resets) +binds | RESET work_mem
primary (resets) +binds | RESET ALL
read | SHOW work_mem
read | SHOW TIME ZONE
read | SHOW TRANSACTION ISOLATION LEVEL
read | SHOW DateStyle; SHOW search_path; SHOW client_encoding; SHOW standard_conforming_strings
read | SHOW server_version; SHOW max_identifier_length; SHOW server_encoding; SHOW lc_collate
read | SHOW SESSION AUTHORIZATION; SHOW role; SHOW is_superuser
read [42704] | SHOW app.name
primary (shows a setting of the node) | SHOW ALL
primary (shows a setting of the node) | SHOW transaction_read_only
primary (shows a setting of the node) | SHOW in_hot_standby
primary (shows a setting of the node) | SHOW default_transaction_read_only
primary (shows a setting of the node) | SHOW hot_standby
primary (shows a setting of the node) | SHOW port
primary (shows a setting of the node) | SHOW data_directory
primary (shows a setting of the node) | SHOW log_statement
primary (shows a setting of the node) | SHOW primary_conninfo
primary (shows a setting of the node) | SHOW martlet.lsn
primary (shows a setting of the node) | SHOW work_mem; SHOW cluster_name
primary (discards) +binds | DISCARD ALL
primary (discards) +binds | DISCARD PLANS
primary (loads a library) +binds | LOAD 'auto_explain'
primary (makes a checkpoint) | CHECKPOINT
primary (listens) +binds | LISTEN channel
primary (no more) +binds | UNLISTEN *
write (notifies) | NOTIFY channel, 'payload'
primary (prepares a statement) +binds | PREPARE plan (int) AS SELECT * FROM item WHERE id = $1
primary (prepares a statement) +binds | PREPARE plan AS INSERT INTO item VALUES (1)
write (executes a prepared statement) +binds +code | EXECUTE plan (1)
primary (deallocates) +binds | DEALLOCATE plan
primary (deallocates) +binds | DEALLOCATE PREPARE ALL
primary (opens a cursor) +binds | DECLARE c CURSOR FOR SELECT * FROM item
primary (opens a cursor) +binds | DECLARE c BINARY INSENSITIVE SCROLL CURSOR WITH HOLD FOR TABLE item
write (calls nextval) +binds | DECLARE c CURSOR FOR SELECT nextval('counter')
primary (opens a cursor) +binds | DECLARE c CURSOR FOR SELECT * FROM item FOR UPDATE
primary (reads from a cursor) +binds | FETCH NEXT FROM c
primary (reads from a cursor) +binds | FETCH 10 IN c
primary (reads from a cursor) +binds | FETCH BACKWARD ALL FROM c
primary (reads from a cursor) +binds | MOVE ABSOLUTE 5 IN c
primary (closes a cursor) +binds | CLOSE c
primary (closes a cursor) +binds | CLOSE ALL

# Code and maintenance
write (runs a block of code) +code | DO $$ BEGIN PERFORM 1; END $$
write (runs a block of code) +code | DO LANGUAGE plpgsql 'BEGIN END'
write (calls a procedure) +code | CALL work()
write (calls a procedure) +code | CALL public.work()
write (VACUUM or ANALYZE) | VACUUM
write (VACUUM or ANALYZE) | VACUUM (FULL, ANALYZE) item (id)
write (VACUUM or ANALYZE) | ANALYZE item
write (VACUUM or ANALYZE) | ANALYZE VERBOSE
write (CLUSTER) | CLUSTER item USING item_pkey
write (REINDEX) | REINDEX TABLE CONCURRENTLY item
write (REFRESH MATERIALIZED VIEW) +catalogue | REFRESH MATERIALIZED VIEW CONCURRENTLY total WITH NO DATA

# Data definition
write (CREATE TABLE) +catalogue | CREATE TABLE x (a int PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> ''), EXCLUDE USING gist (c WITH &&))
write (CREATE TABLE) +catalogue | CREATE UNLOGGED TABLE x (a int)
write (CREATE TABLE) | CREATE TEMP TABLE x (a int) ON COMMIT DROP
write (CREATE TABLE) | CREATE LOCAL TEMPORARY TABLE x (LIKE item INCLUDING ALL)
write (CREATE TABLE) +catalogue | CREATE TABLE x PARTITION OF sale FOR VALUES IN (1, 2)
write (CREATE TABLE) +catalogue | CREATE TABLE IF NOT EXISTS x OF pair
write (CREATE TABLE AS) +catalogue | CREATE TABLE x AS SELECT 1
write (CREATE TABLE AS) | CREATE TEMP TABLE x AS SELECT * FROM item WITH NO DATA
write (CREATE TABLE AS) +catalogue | CREATE TABLE x AS EXECUTE plan (1)
write (CREATE TABLE AS) +catalogue | CREATE MATERIALIZED VIEW x AS SELECT 1
write (CREATE VIEW) +catalogue | CREATE OR REPLACE VIEW x AS SELECT 1
write (CREATE VIEW) | CREATE TEMP VIEW x AS SELECT 1
write (CREATE VIEW) +catalogue | CREATE RECURSIVE VIEW x (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM x
write (CREATE INDEX) | CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS x ON item USING btree (lower(name) DESC) INCLUDE (id) WHERE id > 1
write (CREATE INDEX) +catalogue | CREATE INDEX x ON item (name text_pattern_ops)
write (CREATE SEQUENCE) +catalogue | CREATE SEQUENCE x START 5 CACHE 10 CYCLE
write (CREATE SEQUENCE) | CREATE TEMP SEQUENCE x
write (ALTER SEQ) +catalogue | ALTER SEQUENCE counter RESTART 1
write (CREATE SCHEMA) +catalogue | CREATE SCHEMA x AUTHORIZATION app CREATE TABLE y (a int)
write (CREATE FUNCTION) +catalogue | CREATE OR REPLACE FUNCTION f(a int, OUT b int) RETURNS int LANGUAGE sql STABLE AS $f$ SELECT 1 $f$
write (CREATE FUNCTION) +catalogue | CREATE FUNCTION f() RETURNS int RETURN 1
write (CREATE FUNCTION) +catalogue | CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END
write (CREATE FUNCTION) +catalogue | CREATE PROCEDURE p(INOUT a int) LANGUAGE plpgsql AS 'BEGIN END'
write (ALTER FUNCTION) +catalogue | ALTER FUNCTION twice(int) VOLATILE
write (ALTER TABLE) +catalogue | ALTER TABLE item OWNER TO app; ALTER FUNCTION twice OWNER TO app
write (ALTER OWNER) +catalogue | ALTER FUNCTION twice OWNER TO app
write (DROP) +drops | DROP FUNCTION IF EXISTS twice(int), mixed CASCADE
write (DROP) +drops | DROP TABLE item, sale CASCADE
write (DROP) +drops | DROP INDEX CONCURRENTLY x
write (DROP) +drops | DROP SCHEMA app CASCADE
write (DROP OWNED) +drops | DROP OWNED BY app
write (REASSIGN OWNED) | REASSIGN OWNED BY app TO postgres
write (CREATE of) +catalogue | CREATE AGGREGATE x (int) (SFUNC = int4pl, STYPE = int)
write (CREATE of) +catalogue | CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)
write (CREATE of) +catalogue | CREATE COLLATION x (LOCALE = 'C')
write (CREATE of) +catalogue | CREATE TEXT SEARCH CONFIGURATION x (COPY = simple)
write (CREATE ENUM) +catalogue | CREATE TYPE x AS ENUM ('a', 'b')
write (COMPOSITE TYPE) +catalogue | CREATE TYPE x AS (a int)
write (CREATE RANGE) +catalogue | CREATE TYPE x AS RANGE (SUBTYPE = int)
write (ALTER ENUM) +catalogue | ALTER TYPE mood ADD VALUE 'x' BEFORE 'ok'
write (CREATE DOMAIN) +catalogue | CREATE DOMAIN x AS int NOT NULL CHECK (VALUE > 1)
write (CREATE CAST) +catalogue | CREATE CAST (int AS mood) WITH INOUT
write (CREATE TRIGGER) +catalogue | CREATE TRIGGER t BEFORE INSERT OR UPDATE OF name ON item FOR EACH ROW WHEN (true) EXECUTE FUNCTION f()
write (CREATE TRIGGER) +catalogue | CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION f()
write (CREATE RULE) +catalogue | CREATE RULE r AS ON INSERT TO item DO ALSO (SELECT 1; DELETE FROM item)
write (CREATE POLICY) +catalogue | CREATE POLICY p ON item FOR SELECT TO app USING (true)
write (ALTER TABLE) +catalogue | ALTER TABLE item ADD COLUMN x int, DROP COLUMN y, ALTER name TYPE text USING name::text, SET UNLOGGED
write (ALTER TABLE) +catalogue | ALTER TABLE sale ATTACH PARTITION sale_low FOR VALUES FROM (MINVALUE) TO (MAXVALUE)
write (RENAME) +catalogue | ALTER TABLE item RENAME TO other
write (RENAME) +catalogue | ALTER TABLE item RENAME COLUMN a TO b
write (ALTER OBJECT SCHEMA) +catalogue | ALTER FUNCTION twice(int) SET SCHEMA app
write (CREATE EXTENSION) +catalogue | CREATE EXTENSION IF NOT EXISTS pg_trgm
write (ALTER EXTENSION) +catalogue | ALTER EXTENSION pg_trgm UPDATE
write (CREATE DATABASE) +catalogue | CREATE DATABASE x TEMPLATE template0
write (DROP DATABASE) +catalogue | DROP DATABASE x WITH (FORCE)
write (ALTER DATABASE) +catalogue | ALTER DATABASE app SET work_mem = '1MB'
write (CREATE ROLE) +catalogue | CREATE ROLE x LOGIN PASSWORD 'secret'
write (ALTER ROLE) +catalogue | ALTER USER app SET work_mem = '1MB'
write (ALTER SYSTEM) +catalogue | ALTER SYSTEM SET work_mem = '1MB'
write (ALTER DEFAULT PRIVILEGES) +catalogue | ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app
write (GRANT or REVOKE) | GRANT SELECT, INSERT (id) ON item TO app WITH GRANT OPTION
write (GRANT or REVOKE) | REVOKE ALL ON ALL TABLES IN SCHEMA public FROM app
write (GRANT or REVOKE) | GRANT app TO postgres
write (COMMENT) | COMMENT ON TABLE item IS 'x'
write (SECURITY LABEL) | SECURITY LABEL ON TABLE item IS 'x'
write (TABLE SPACE) +catalogue | CREATE TABLESPACE x LOCATION '/x'
write (CREATE PUBLICATION) +catalogue | CREATE PUBLICATION p FOR TABLE item WHERE (id > 1)
write (CREATE SUBSCRIPTION) +catalogue | CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p
write (CREATE FOREIGN SERVER) +catalogue | CREATE SERVER s FOREIGN DATA WRAPPER w
write (CREATE FOREIGN TABLE) +catalogue | CREATE FOREIGN TABLE x (a int) SERVER s
write (IMPORT FOREIGN SCHEMA) +catalogue | IMPORT FOREIGN SCHEMA public FROM SERVER s INTO app
write (CREATE USER MAPPING) +catalogue | CREATE USER MAPPING FOR app SERVER s
write (CREATE STATS) +catalogue | CREATE STATISTICS s ON name, price FROM item
write (CREATE LANGUAGE) +catalogue | CREATE LANGUAGE plx HANDLER f
write (CREATE TRANSFORM) +catalogue | CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION f(internal))
write (CREATE CONVERSION) +catalogue | CREATE CONVERSION c FOR 'UTF8' TO 'LATIN1' FROM f
write (CREATE AM) +catalogue | CREATE ACCESS METHOD a TYPE INDEX HANDLER f

# What the text does not show and the catalogue knows: an operator, a cast and a view that call a function that writes, a
# function called as if it were a column, a view of an unlogged table
write (uses operator +++!, which calls counted, which is VOLATILE) | SELECT 1 +++! 2
read | SELECT 1 === 2
write (casts to mood, which calls counted_mood, which is VOLATILE) | SELECT 1::mood
write (reads counting, which calls nextval) | SELECT * FROM counting
write (calls touched, which is VOLATILE) | SELECT item.touched FROM item
primary (reads scratched, which uses scratch, which is not logged) | SELECT * FROM scratched
primary (uses part, which is not logged) | SELECT * FROM part
primary (reads locked, which locks rows) +binds | SELECT * FROM locked
primary (reads blank, which is not populated) | SELECT * FROM blank
write (reads outside, a foreign table) | SELECT * FROM outside
write (calls greeting, which calls nextval, which changes a sequence) | SELECT greeting()
write (casts to counted_int, which calls checked, which is VOLATILE) | SELECT 1::counted_int
write (casts to counted_int) | SELECT CAST(ARRAY[1] AS counted_int[])
write (casts to _counted_int) | SELECT '{1}'::_counted_int
write (calls counted_int, which is not known) | SELECT counted_int('1')
read | SELECT a + 1 FROM counts ORDER BY a
read | SELECT lag(a) OVER (ORDER BY a) FROM item i (a)
write (makes values of counts, which calls checked, which is VOLATILE) | SELECT lag(a, 1, '2') OVER (ORDER BY a) FROM counts
write (makes values of counts) | SELECT jsonb_populate_record(c, '{"a": 3}') FROM counts c
write (makes values of counts) | SELECT (json_populate_recordset(c, '[{"a": 3}]')).a FROM counts c

# What the catalogue does not know, since it says STABLE: a standby refuses it, and the safety net runs it on the primary
read [25006] | SELECT lies()

# What this grammar does not know
write (not understood) +binds +code | SELEC 1
write (not understood) +binds +code | SELECT 'open
write (not understood) +binds +code | SELECT "open
write (not understood) +binds +code | SELECT $a$ open $b$
write (not understood) +binds +code | SELECT 1 /* open /* comment */
write (not understood) +binds +code | SELECT 1)
write (not understood) +binds +code | INSERT INTO
write (not understood) +binds +code | SELECT 'a' 'b'
write (not understood) +binds +code | {"json": 1}
write (not understood) +binds +code | \d item
