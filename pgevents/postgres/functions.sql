-- What runs inside the writers' transactions. Safe to run twice. :"schema" is
-- replaced by the log's schema; `pgevents sql` prints the result for psql.
--
-- A write must never fail because of what stands here, so
--   * no function names a column of the application: row_to_json(r.*) takes
--     the row as it is now (not row_to_json(r): that is a *column* r, where
--     the table has one);
--   * variables win over columns of the same name (#variable_conflict), since
--     a table may have a column called tg_op;
--   * nothing looks inside the JSON: ->> and json_each() raise on \u0000;
--   * rows are compared as text: json, xml and point have no equality;
--   * the settings that change how values are written are pinned, so that a
--     writer's DateStyle, TimeZone or bytea_output does not reach the log;
--   * the functions run with the rights of who installed them: the writer
--     needs none on the log.
--
-- And no code of anybody else may run with these rights, so
--   * names are looked up in pg_catalog alone;
--   * row_to_json() meets no type that is not PostgreSQL's own (their first oid
--     is 16384): it would call the type's cast to json, which its owner may have
--     written, or may write at this moment. Nor is such a value cast to text. It
--     is written by its output function, which only a superuser can make. Domains
--     over PostgreSQL's own types count as these: row_to_json() looks through them.
--     So do enums of the functions' own owner that have no such cast: nobody but he,
--     and superusers, can give them one.
--
-- The lock that a writer has on its table keeps the table as it is, and the catalog
-- tells what that is, but for transactions that read an old snapshot (REPEATABLE
-- READ, SERIALIZABLE): these are asked what the rows themselves are made of.

-- Whether row_to_json() may meet values of a type: see above.
CREATE OR REPLACE FUNCTION :"schema".native(type oid) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WHILE type >= 16384 LOOP
        type := (
            SELECT CASE WHEN typtype = 'd' THEN typbasetype
                        WHEN typsubscript = 'array_subscript_handler'::regproc THEN typelem
                        WHEN typtype = 'e' AND pg_get_userbyid(typowner) = current_user
                             AND current_setting('transaction_isolation') LIKE 'read %'
                             AND NOT EXISTS (SELECT FROM pg_cast WHERE castsource = t.oid
                                                AND casttarget = 'json'::regtype)
                        THEN 'text'::regtype END
              FROM pg_type t WHERE t.oid = type);
    END LOOP;
    RETURN type IS NOT NULL;
END
$$;

-- The columns of a row r, as a list for SELECT.
-- wish: {"include": [...] or null, "exclude": [...], "keys": true or false};
-- with "keys" only the primary key's. types: {"column": "oid of its type", ...};
-- NULL to ask the catalog, so a renamed or dropped column breaks nothing. A virtual
-- generated column is null: transition tables do not have it, and naming it raises.
-- num_nulls() and not IS NULL: that holds for a composite value of NULLs, too.
CREATE OR REPLACE FUNCTION :"schema".columns(relation oid, wish json, types json) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = 'force_generic_plan'
AS $$
DECLARE
    included text[];  -- NULL: all
    excluded text[] := '{}';
BEGIN
    IF json_typeof(wish->'include') = 'array' THEN
        included := ARRAY(SELECT json_array_elements_text(wish->'include'));
    END IF;
    IF json_typeof(wish->'exclude') = 'array' THEN
        excluded := ARRAY(SELECT json_array_elements_text(wish->'exclude'));
    END IF;
    IF wish->>'keys' = 'true' THEN
        included := ARRAY(SELECT attname::text FROM pg_index JOIN pg_attribute
                              ON attrelid = indrelid AND attnum = ANY (indkey)
                           WHERE indrelid = relation AND indisprimary);
    END IF;
    RETURN (
        SELECT coalesce(string_agg(
                   format(CASE WHEN a.virtual THEN 'NULL AS %1$I'
                               WHEN a.type < 16384 OR :"schema".native(a.type) THEN 'r.%1$I'
                               ELSE 'CASE WHEN pg_catalog.num_nulls(r.%1$I) = 0 THEN'
                                    ' pg_catalog.format(''%%s'', r.%1$I) END AS %1$I' END,
                          a.name),
                   ', ' ORDER BY a.place), '')
          FROM (SELECT attname::text, atttypid, attnum, attgenerated = 'v' FROM pg_attribute
                 WHERE types IS NULL AND attrelid = relation AND attnum > 0 AND NOT attisdropped
                 UNION ALL
                SELECT key, value::oid, ordinality, false
                  FROM json_each_text(types) WITH ORDINALITY) a (name, type, place, virtual)
         WHERE (included IS NULL OR a.name = ANY (included)) AND a.name <> ALL (excluded));
END
$$;

-- SQL for {"column": "oid of its type", ...} of a row r, given {"column": null, ...}.
CREATE OR REPLACE FUNCTION :"schema".types_sql(names json) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT format('SELECT row_to_json(x.*) FROM (SELECT %s', coalesce(
                       string_agg(format('pg_typeof(r.%1$I)::oid AS %1$I', name), ', '), ''))
              FROM json_object_keys(names) name);
END
$$;

-- A row as JSON, or NULL where that cannot be, because it is too large. An old and a
-- new row have to fit into one row of the log, which ends at 1 GB.
CREATE OR REPLACE FUNCTION :"schema".careful(given record) RETURNS json
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    whole json;
BEGIN
    whole := row_to_json(given);
    RETURN CASE WHEN octet_length(whole::text) <= 200000000 THEN whole END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- SQL for the JSON of a row r: what the wish says of it; NULL if it is too large.
CREATE OR REPLACE FUNCTION :"schema".row_sql(relation oid, wish json, types json) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('(SELECT :"schema".careful(x.*) FROM (SELECT %s) x)',
                  :"schema".columns(relation, wish, types));
END
$$;

CREATE OR REPLACE FUNCTION :"schema".row_sql(relation oid, wish json) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN :"schema".row_sql(relation, wish, NULL);
END
$$;

-- The beginning of a context that is too long: what a writer puts into a setting must
-- neither make its write fail nor fill the readers' memory. SQL_ASCII knows bytes alone,
-- of UTF-8 perhaps, whose characters begin with no byte from 128 to 191.
CREATE OR REPLACE FUNCTION :"schema".cut(context text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size int := 16384;
    bytes bytea;
BEGIN
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
        bytes := convert_to(left(context, size + 1), 'SQL_ASCII');
        WHILE size > 16380 AND get_byte(bytes, size) BETWEEN 128 AND 191 LOOP
            size := size - 1;
        END LOOP;
    END IF;
    RETURN left(context, size) || '... (cut)';
END
$$;

-- Of 0.1.
DROP FUNCTION IF EXISTS :"schema".columns(oid, json, boolean);

-- The four functions that follow know three ways:
--   1. The quick one, by a statement whose plan is kept: whole rows (TG_NARGS = 0) of
--      PostgreSQL's own types, of up to 250,000 bytes. Even if these were compressed 255
--      times and each character became \u0001, that is safe.
--   2. Other rows of up to 8,000 bytes, as composite types double each quote as often as
--      they are nested.
--   3. The careful one: larger rows. It tells a row by its key if it cannot tell it whole.
-- A small value may be a long text: in jsonb and in arrays twelve bytes are a number of
-- 131,072 digits, and a NULL is one bit. A table "swells" if it has such types (jsonb is
-- 3802), or composite ones; 17 to 1700 are bytea, text, json, char, varchar and numeric, of
-- which no more need be asked. If one row is too large, all of its statement go the third way.
-- The first two leave what is larger, saying so in the setting pgevents.large; "told" is
-- the size up to which they have told all. The plan must be kept, as planning costs more
-- than all the rest.

-- The common types, which the functions list by their oids, are PostgreSQL's own and do not
-- swell: bool to numeric and uuid. Whoever has another one is asked about here, which costs
-- as much as the rest of a write: do all columns have PostgreSQL's own types, does one swell?
CREATE OR REPLACE FUNCTION :"schema".rare(relation oid) RETURNS record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    SELECT coalesce(bool_and(atttypid < 16384 OR :"schema".native(atttypid)), true) AS native,
           coalesce(bool_or(attlen = -1 AND atttypid NOT IN (17, 25, 114, 1042, 1043, 1700)
                            AND EXISTS (SELECT FROM pg_type t WHERE t.oid = atttypid
                                           AND (typcategory IN ('A', 'V') OR t.oid = 3802
                                                OR typtype IN ('c', 'm')
                                                OR typtype = 'd' AND typcategory IN ('C', 'R', 'U')
                                               ))), false) AS swells
      INTO answer
      FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped;
    RETURN answer;
END
$$;

-- SQL for the JSON of a small row r.
CREATE OR REPLACE FUNCTION :"schema".small_sql(relation oid, wish json, types json) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format('(SELECT row_to_json(x.*) FROM (SELECT %s) x)',
                  :"schema".columns(relation, wish, types));
END
$$;

--- The blocks of the functions that follow; script.py puts them in.

--- block pinned
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET plan_cache_mode = 'force_generic_plan'
--- end

--- Is there anything to do, and which ways are safe for the table?
--- block look: native, swells
    IF current_setting('pgevents.capture', true) = 'off' THEN
        RETURN NULL;
    END IF;
    IF octet_length(context) > 65536 THEN
        context := :"schema".cut(context);
    END IF;
    PERFORM FROM pg_attribute WHERE attrelid = TG_RELID AND attnum > 0
        AND atttypid <> ALL (
            '{0,16,17,18,19,20,21,23,25,26,114,142,650,700,701,790,829,869}'::oid[]
            || '{1042,1043,1082,1083,1114,1184,1186,1266,1700,2950}'::oid[]);
    IF FOUND THEN
        SELECT * INTO <native>, <swells> FROM :"schema".rare(TG_RELID) AS (n boolean, s boolean);
    END IF;
--- end

--- What insert, update and delete begin with.
--- block begin
AS $$
#variable_conflict use_variable
DECLARE
    context text := current_setting('pgevents.context', true);
    wish json := '{}';
    told int := 8000;
    native boolean := true;
    swells boolean := false;
    quick boolean;
    types json;
BEGIN
    --- put look: native, swells
    quick := native AND TG_NARGS = 0
             AND current_setting('transaction_isolation') LIKE 'read %';
--- end

--- Of which types the rows are, for a transaction that may see an old catalog.
--- block types: rows
        IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
            SELECT row_to_json(x.*) INTO types
              FROM (SELECT r.* FROM (SELECT) d LEFT JOIN <rows> r ON false) x;
            EXECUTE :"schema".types_sql(types)
                    || ' FROM (SELECT) d LEFT JOIN <rows> r ON false) x' INTO types;
        END IF;
--- end

--- The function of an operation that has one row, not an old and a new one.
--- block capture_one: operation, row, rows, options
CREATE OR REPLACE FUNCTION :"schema".capture_<operation>() RETURNS trigger
--- put pinned
--- put begin
    IF swells THEN
        IF quick THEN
            quick := NOT EXISTS (SELECT FROM <rows> r WHERE :"schema".careful(r.*) IS NULL);
        END IF;
        IF NOT quick THEN
            told := -1;
        END IF;
    END IF;
    IF quick THEN
        INSERT INTO :"schema".log (topic, operation, <row>, context)
        SELECT TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, '<operation>', row_to_json(r.*), context
          FROM <rows> r
         WHERE pg_column_size(r.*) <= 250000 OR set_config('pgevents.large', 'on', true) IS NULL;
        told := 250000;
    ELSE
        wish := coalesce(TG_ARGV[<options>], '{}');
        --- put types: <rows>
        EXECUTE format(
            'INSERT INTO :"schema".log (topic, operation, <row>, context)
             SELECT $1, ''<operation>'', row_to_json(x.*), $2
               FROM (SELECT %s FROM (SELECT r.* FROM <rows> r OFFSET 0) r
                      WHERE pg_column_size(r.*) <= $3
                            OR set_config(''pgevents.large'', ''on'', true) IS NULL) x',
            :"schema".columns(TG_RELID, wish, types))
        USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, context, told;
    END IF;
    IF current_setting('pgevents.large', true) = 'on' THEN
        EXECUTE format(
            'INSERT INTO :"schema".log (topic, operation, <row>, context)
             SELECT $1, ''<operation>'', coalesce(%s, %s), $2
               FROM (SELECT r.* FROM <rows> r OFFSET 0) r
              WHERE pg_column_size(r.*) > $3',
            :"schema".row_sql(TG_RELID, wish, types),
            :"schema".row_sql(TG_RELID, '{"keys": true}', types))
        USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, context, told;
        PERFORM set_config('pgevents.large', 'off', true);
    END IF;
    RETURN NULL;
END
$$;
--- end

--- put capture_one: insert, new, new_rows, 0

-- Old and new rows are paired by their place in the two transition tables, not
-- by key: keys change, and some tables have none. FULL JOIN, because it is never
-- a nested loop: a session keeps the plan of its first update, of one row
-- perhaps, and the next may be of a million. Compared is what is captured of both
-- rows (TG_ARGV[0]), kept of the old one is what was asked for (TG_ARGV[1]).
CREATE OR REPLACE FUNCTION :"schema".capture_update() RETURNS trigger
--- put pinned
--- put begin
    IF swells THEN
        IF quick THEN
            quick := NOT EXISTS (SELECT FROM old_rows r WHERE :"schema".careful(r.*) IS NULL
                                 UNION ALL SELECT FROM new_rows r WHERE :"schema".careful(r.*) IS NULL);
        END IF;
        IF NOT quick THEN
            told := -1;
        END IF;
    END IF;
    IF quick THEN
        INSERT INTO :"schema".log (topic, operation, old, new, context)
        SELECT TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, 'update', o.row, n.row, context
          FROM (SELECT row_number() OVER () AS place,
                       CASE WHEN pg_column_size(r.*) <= 250000 THEN row_to_json(r.*) END AS row
                  FROM old_rows r) o
          FULL JOIN
               (SELECT row_number() OVER () AS place,
                       CASE WHEN pg_column_size(r.*) <= 250000 THEN row_to_json(r.*) END AS row
                  FROM new_rows r) n
            ON n.place = o.place
         WHERE CASE WHEN o.row IS NULL OR n.row IS NULL
                    THEN set_config('pgevents.large', 'on', true) IS NULL
                    ELSE o.row::text <> n.row::text END
         ORDER BY o.place;
        told := 250000;
    ELSE
        wish := coalesce(TG_ARGV[0], '{}');
        --- put types: new_rows
        EXECUTE format(
            'INSERT INTO :"schema".log (topic, operation, old, new, context)
             SELECT $1, ''update'', o.kept, n.row, $2
               FROM (SELECT row_number() OVER () AS place,
                            CASE WHEN pg_column_size(r.*) <= $3 THEN %1$s END AS row, %2$s AS kept
                       FROM (SELECT r.* FROM old_rows r OFFSET 0) r) o
               FULL JOIN
                    (SELECT row_number() OVER () AS place,
                            CASE WHEN pg_column_size(r.*) <= $3 THEN %1$s END AS row
                       FROM (SELECT r.* FROM new_rows r OFFSET 0) r) n
                 ON n.place = o.place
              WHERE CASE WHEN o.row IS NULL OR n.row IS NULL
                         THEN set_config(''pgevents.large'', ''on'', true) IS NULL
                         ELSE o.row::text <> n.row::text END
              ORDER BY o.place',
            :"schema".small_sql(TG_RELID, wish, types),
            :"schema".small_sql(TG_RELID, coalesce(TG_ARGV[1], '{}')::json, types))
        USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, context, told;
    END IF;
    -- What cannot be compared is told.
    IF current_setting('pgevents.large', true) = 'on' THEN
        EXECUTE format(
            'INSERT INTO :"schema".log (topic, operation, old, new, context)
             SELECT $1, ''update'', o.kept, coalesce(n.row, n.key), $2
               FROM (SELECT row_number() OVER () AS place, pg_column_size(r.*) > $3 AS large,
                            %1$s AS row, coalesce(%2$s, %3$s) AS kept
                       FROM (SELECT r.* FROM old_rows r OFFSET 0) r) o
               FULL JOIN
                    (SELECT row_number() OVER () AS place, pg_column_size(r.*) > $3 AS large,
                            %1$s AS row, %3$s AS key
                       FROM (SELECT r.* FROM new_rows r OFFSET 0) r) n
                 ON n.place = o.place
              WHERE (o.large OR n.large)
                AND (n.row IS NULL OR o.row::text IS DISTINCT FROM n.row::text)
              ORDER BY o.place',
            :"schema".row_sql(TG_RELID, wish, types),
            :"schema".row_sql(TG_RELID, coalesce(TG_ARGV[1], '{}')::json, types),
            :"schema".row_sql(TG_RELID, '{"keys": true}', types))
        USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, context, told;
        PERFORM set_config('pgevents.large', 'off', true);
    END IF;
    RETURN NULL;
END
$$;

--- put capture_one: delete, old, old_rows, 1

-- Partitioned tables and partitions allow no transition tables on triggers
-- that are to see a write into any partition, so these get one call per row.
-- TG_ARGV[2] is the topic: the watched table's, not the partition's.
CREATE OR REPLACE FUNCTION :"schema".capture_row() RETURNS trigger
--- put pinned
AS $$
#variable_conflict use_variable
DECLARE
    context text := current_setting('pgevents.context', true);
    pgevents_new json;
    pgevents_old json;
    pgevents_kept json;
    pgevents_row text;
    pgevents_kept_row text;
    pgevents_key text := 'NULL';
    pgevents_new_key json;
    pgevents_types json;
    pgevents_native boolean := true;
    pgevents_swells boolean := false;
    pgevents_none text := ' FROM (SELECT) d LEFT JOIN (SELECT ($1).*) r ON false) x';
    pgevents_size int := greatest(CASE WHEN TG_OP <> 'DELETE' THEN pg_column_size(NEW.*) END,
                                  CASE WHEN TG_OP <> 'INSERT' THEN pg_column_size(OLD.*) END);
BEGIN
    --- put look: pgevents_native, pgevents_swells
    IF TG_ARGV[0] = '{}' AND TG_ARGV[1] = '{}' AND pgevents_size <= 250000
       AND pgevents_native AND current_setting('transaction_isolation') LIKE 'read %'
       AND NOT (pgevents_swells
                AND (TG_OP <> 'DELETE' AND :"schema".careful(NEW) IS NULL
                     OR TG_OP <> 'INSERT' AND :"schema".careful(OLD) IS NULL)) THEN
        IF TG_OP <> 'DELETE' THEN pgevents_new := row_to_json(NEW); END IF;
        IF TG_OP <> 'INSERT' THEN pgevents_old := row_to_json(OLD); END IF;
        pgevents_kept := pgevents_old;
    ELSE
        IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
            IF TG_OP = 'DELETE' THEN
                EXECUTE 'SELECT row_to_json(x.*) FROM (SELECT r.*' || pgevents_none
                   INTO pgevents_types USING OLD;
                EXECUTE :"schema".types_sql(pgevents_types) || pgevents_none
                   INTO pgevents_types USING OLD;
            ELSE
                EXECUTE 'SELECT row_to_json(x.*) FROM (SELECT r.*' || pgevents_none
                   INTO pgevents_types USING NEW;
                EXECUTE :"schema".types_sql(pgevents_types) || pgevents_none
                   INTO pgevents_types USING NEW;
            END IF;
        END IF;
        IF pgevents_size <= 8000 AND NOT pgevents_swells THEN
            pgevents_row := :"schema".small_sql(TG_RELID, TG_ARGV[0]::json, pgevents_types);
            pgevents_kept_row := :"schema".small_sql(TG_RELID, TG_ARGV[1]::json, pgevents_types);
        ELSE
            pgevents_row := :"schema".row_sql(TG_RELID, TG_ARGV[0]::json, pgevents_types);
            pgevents_kept_row := :"schema".row_sql(TG_RELID, TG_ARGV[1]::json, pgevents_types);
            pgevents_key := :"schema".row_sql(TG_RELID, '{"keys": true}', pgevents_types);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            EXECUTE format('SELECT %s, %s FROM (SELECT ($1).*) r', pgevents_row, pgevents_key)
            INTO pgevents_new, pgevents_new_key USING NEW;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            EXECUTE format('SELECT %s, coalesce(%s, %s) FROM (SELECT ($1).*) r',
                           pgevents_row, pgevents_kept_row, pgevents_key)
            INTO pgevents_old, pgevents_kept USING OLD;
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND pgevents_old::text = pgevents_new::text THEN
        RETURN NULL;
    END IF;
    INSERT INTO :"schema".log (topic, operation, old, new, context)
    VALUES (TG_ARGV[2], lower(TG_OP), pgevents_kept, coalesce(pgevents_new, pgevents_new_key),
            context);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION :"schema".capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    context text := current_setting('pgevents.context', true);
BEGIN
    IF octet_length(context) > 65536 THEN
        context := :"schema".cut(context);
    END IF;
    IF current_setting('pgevents.capture', true) IS DISTINCT FROM 'off' THEN
        INSERT INTO :"schema".log (topic, operation, context)
        VALUES (TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, 'truncate', context);
    END IF;
    RETURN NULL;
END
$$;

-- A partition was truncated, and the watched table it belongs to was not: its rows are gone
-- without an event each. TG_ARGV[0] is that table's topic. Such a row has a topic that nobody
-- listens to, and says in "new" which partition it was; readers report a gap. Where the whole
-- table was truncated just before, or the partition was detached since, there is nothing to say.
-- Not capture_...: 0.1 would take such a trigger from a table that nobody watches.
CREATE OR REPLACE FUNCTION :"schema".partition_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('pgevents.capture', true) IS DISTINCT FROM 'off'
       AND EXISTS (
           WITH RECURSIVE parents (oid) AS (
               SELECT inhparent FROM pg_inherits WHERE inhrelid = TG_RELID
                UNION
               SELECT i.inhparent FROM parents p JOIN pg_inherits i ON i.inhrelid = p.oid)
           SELECT FROM parents JOIN pg_class c USING (oid) JOIN pg_namespace n
               ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = TG_ARGV[0])
       AND (SELECT l.operation FROM :"schema".log l
             WHERE l.xid = pg_current_xact_id() AND l.topic = TG_ARGV[0]
             ORDER BY l.xid DESC, l.seq DESC LIMIT 1) IS DISTINCT FROM 'truncate' THEN
        INSERT INTO :"schema".log (topic, operation, new)
        VALUES ('partition:' || TG_ARGV[0], 'truncate',
                json_build_object('partition', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME));
    END IF;
    RETURN NULL;
END
$$;

-- Publish messages: see channels/. Whoever has EXECUTE may publish, and needs no right on the
-- log. Names are checked here, too; payloads are JSON by their type. "envelopes" are JSON objects
-- {"id": ..., "key": ..., "metadata": {...}}, which only readers look into. A row of a message has
-- the operation "read", which release 0.1 leaves to groups of its topic.
--
-- With "delays" (seconds) a message waits in "delayed" until a hub moves it; "ids" are those that
-- are published once, which the table "ids" remembers; "expires" are seconds after which it is not
-- delivered any more. A message whose id was published before is left out.
CREATE OR REPLACE FUNCTION :"schema".publish_many(channels text[], payloads text[], envelopes text[], ids text[] DEFAULT NULL, delays double precision[] DEFAULT NULL, expires double precision[] DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    context text := current_setting('pgevents.context', true);
    channel text;
    published integer;
    start float8;
BEGIN
    FOREACH channel IN ARRAY channels LOOP
        IF (channel = '' OR strpos(channel, '*') > 0 OR octet_length(channel) > 200) IS NOT FALSE THEN
            RAISE invalid_parameter_value USING MESSAGE = 'no channel: '
                || coalesce(quote_literal(left(channel, 60)), 'NULL')
                || ', give a name of 1 to 200 bytes without "*"';
        END IF;
    END LOOP;
    IF octet_length(context) > 65536 THEN
        context := :"schema".cut(context);
    END IF;
    IF num_nonnulls(ids, delays, expires) > 0 THEN
        IF EXISTS (SELECT FROM unnest(delays || expires) s WHERE s NOT BETWEEN 0 AND 1e10) THEN
            RAISE invalid_parameter_value USING MESSAGE = 'delay and expires are seconds, 0 or more';
        END IF;
        start := extract(epoch FROM clock_timestamp());
        WITH given AS (
            SELECT m.*, start + coalesce(m.delay, 0) AS due,
                   m.id IS NULL OR row_number() OVER (
                       PARTITION BY m.channel, m.id ORDER BY m.place) = 1 AS first
              FROM unnest(channels, payloads, envelopes, ids, delays, expires) WITH ORDINALITY
                   m (channel, payload, envelope, id, delay, lasting, place)
        ), taken AS (
            -- In one order, so that two publishers of many do not wait for each other.
            INSERT INTO :"schema".ids AS i (channel, id, at)
            SELECT g.channel, g.id, start FROM given g WHERE g.id IS NOT NULL AND g.first
             ORDER BY 1, 2
            ON CONFLICT DO NOTHING RETURNING i.channel, i.id
        ), chosen AS (
            SELECT g.place, g.delay > 0 AS later, g.due, 'channel:' || g.channel AS topic,
                   (left(rtrim(g.envelope), -1)
                    || CASE WHEN g.delay > 0 THEN ',"due":' || g.due ELSE '' END
                    || coalesce(',"until":' || (g.due + g.lasting), '') || '}')::json AS old,
                   g.payload::json AS new
              FROM given g
             WHERE g.first AND (g.id IS NULL OR EXISTS (
                   SELECT FROM taken t WHERE t.channel = g.channel AND t.id = g.id))
        ), waiting AS (
            INSERT INTO :"schema".delayed (due, topic, old, new, context)
            SELECT c.due, c.topic, c.old, c.new, context FROM chosen c WHERE c.later
             ORDER BY c.place RETURNING 1
        ), put AS (
            INSERT INTO :"schema".log (topic, operation, old, new, context)
            SELECT c.topic, 'read', c.old, c.new, context FROM chosen c WHERE c.later IS NOT TRUE
             ORDER BY c.place RETURNING 1
        )
        SELECT (SELECT count(*) FROM waiting) + (SELECT count(*) FROM put) INTO published;
        RETURN published;
    END IF;
    IF cardinality(channels) = 1 THEN  -- as mostly; this is the quicker way
        INSERT INTO :"schema".log (topic, operation, old, new, context)
        VALUES ('channel:' || channels[1], 'read', envelopes[1]::json, payloads[1]::json, context);
        RETURN 1;
    END IF;
    INSERT INTO :"schema".log (topic, operation, old, new, context)
    SELECT 'channel:' || m.channel, 'read', envelope::json, payload::json, context
      FROM unnest(channels, payloads, envelopes) WITH ORDINALITY m (channel, payload, envelope, place)
     ORDER BY place;
    GET DIAGNOSTICS published = ROW_COUNT;
    RETURN published;
END
$$;

-- Publish one message, and return its id: SELECT pgevents.publish('orders.new', '{"id": 17}').
CREATE OR REPLACE FUNCTION :"schema".publish(channel text, payload json, key text DEFAULT NULL, metadata json DEFAULT NULL, id text DEFAULT NULL, delay double precision DEFAULT NULL, expires double precision DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    named text[] := CASE WHEN id IS NOT NULL THEN ARRAY[id] END;
    own text := coalesce(id, replace(gen_random_uuid()::text, '-', ''));
BEGIN
    IF own = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'an id is not empty';
    ELSIF payload IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a message has a payload: give ''null'' for none';
    ELSIF json_typeof(metadata) <> 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'metadata are a JSON object';
    END IF;
    PERFORM :"schema".publish_many(
        ARRAY[channel], ARRAY[payload::text],
        ARRAY['{"id":' || to_json(own) || coalesce(',"key":' || to_json(key), '')
              || coalesce(',"metadata":' || metadata::text, '') || '}'],
        named,
        CASE WHEN delay IS NOT NULL THEN ARRAY[delay] END,
        CASE WHEN expires IS NOT NULL THEN ARRAY[expires] END);
    RETURN own;
END
$$;

--- block bell: log
BEGIN
    -- IF and not PERFORM, which would start the executor for each call. Each lock is
    -- tried twice: a reader that tries WRITERS holds it for an instant only, and so
    -- does a writer SLEEPERS. Taken and given back in one expression: a statement
    -- that is cancelled ends between two lines, and the lock would stay with the session.
    IF (pg_try_advisory_xact_lock_shared(<log>::int4, 1)
        OR pg_try_advisory_xact_lock_shared(<log>::int4, 1))
       AND (CASE WHEN pg_try_advisory_lock(<log>::int4, 2)
                      OR pg_try_advisory_lock(<log>::int4, 2)
                 THEN pg_advisory_unlock(<log>::int4, 2) ELSE false END) THEN
        RETURN NULL;
    ELSIF TG_ARGV[0] = 'on'
          AND current_setting('pgevents.bell', true) IS DISTINCT FROM 'off'
          -- A full queue would make COMMIT fail; readers look by themselves, too.
          AND pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('pgevents_' || <log>, '');
    END IF;
    RETURN NULL;
END
$$;
--- end

-- Ring the bell, if somebody sleeps. pg_notify() makes commits queue for a
-- lock of the whole cluster, so it is called only when a reader has announced,
-- by holding lock 2 (SLEEPERS) in share mode, that it went to sleep. Lock 1
-- (WRITERS) tells readers about writers that began before the announcement.
--
--   writer                                   reader, after an empty read
--   try WRITERS shared, until commit         try SLEEPERS shared
--     not got: NOTIFY at commit                not got: read again soon
--   try SLEEPERS exclusive                   try WRITERS exclusive
--     got it: nobody sleeps, give it back      not got: a writer is under way that
--     not got: NOTIFY at commit                  may not have seen us: read again soon
--                                              got it: read once more, then sleep
--
-- Nobody waits: any role may hold these locks for as long as it likes. Who notifies
-- needs neither, since all readers LISTEN.
--
-- Locks and channel are known by the log's oid, so each log has its own. Streams have their
-- events in a table beside it, and the same bell: one reader sleeps for both.
CREATE OR REPLACE FUNCTION :"schema".ring() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
--- put bell: TG_RELID

CREATE OR REPLACE FUNCTION :"schema".ring_streams() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
--- put bell: ':"schema".log'::regclass::oid
